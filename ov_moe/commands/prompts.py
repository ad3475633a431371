"""Prompts by number of tokens or by text. Does not import openvino or a tokenizer until a text needs one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ov_moe.errors import InvalidInputError

Ids = npt.NDArray[np.int64]

# Ids below are left out of random prompts: padding, beginning and end of text in most vocabularies.
_FIRST_ID = 3


@dataclass(frozen=True)
class Prompt:
    """One prompt; exactly one of the two is given.

    Attributes:
        tokens: Number of random tokens, for each sequence of a batch others.
        text: The text, the same for each sequence of a batch.
    """

    tokens: int | None = None
    text: str | None = None

    def label(self) -> str:
        """A short name for tables."""
        if self.text is None:
            return f"{self.tokens} random tokens"
        return repr(self.text if len(self.text) <= 24 else f"{self.text[:21]}...")


def random_ids(tokens: int, batch: int, vocabulary: int, seed: int) -> Ids:
    """int64 [batch, tokens], the same in every process."""
    low = _FIRST_ID if vocabulary > _FIRST_ID else 0
    return np.random.default_rng([seed, tokens]).integers(low, vocabulary, (batch, tokens), dtype=np.int64)


def parse_prompts(counts: str | None, texts: list[str], file: Path | None) -> tuple[Prompt, ...]:
    """The prompts of a command line.

    Args:
        counts: Numbers of tokens, separated by commas.
        texts: Texts.
        file: A file with one text a line, or lines ``{"prompt": "..."}`` where it ends in .jsonl (llm_bench's format).

    Raises:
        InvalidInputError: A number is none, a text is empty, or the file cannot be used.
    """
    words = [] if counts is None else [word for word in counts.split(",") if word.strip()] or [counts]
    prompts = [Prompt(tokens=_count(word)) for word in words]
    prompts += [Prompt(text=text) for text in (*texts, *_lines(file))]
    if any(prompt.text is not None and not prompt.text.strip() for prompt in prompts):
        raise InvalidInputError("A prompt's text is empty: give at least one word.")
    return tuple(prompts)


def _count(word: str) -> int:
    if not word.strip().isdigit() or int(word) < 1:
        raise InvalidInputError(
            f"{word.strip()!r} is no number of prompt tokens: give whole numbers from 1, as in 32,512."
        )
    return int(word)


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise InvalidInputError(f"The prompt file {file} is no UTF-8 text.") from None
    except OSError as error:
        raise InvalidInputError(f"The prompt file {file} cannot be read: {error.strerror}.") from None
    if not lines:
        raise InvalidInputError(f"The prompt file {file} holds no prompt.")
    if file.suffix != ".jsonl":
        return lines
    try:
        return [str(json.loads(line)["prompt"]) for line in lines]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise InvalidInputError(f'A line of the prompt file {file} is no {{"prompt": "..."}}.') from None
