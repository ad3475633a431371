"""Turns a text into token ids with what lies beside the model: openvino_tokenizers, or transformers."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ov_moe.commands.prompts import Ids
from ov_moe.errors import InvalidInputError

Tokenize = Callable[[str], Ids]

_HUGGING_FACE = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


def load_tokenizer(folder: Path) -> Tokenize:
    """A function text -> int64 [1, S].

    openvino_tokenizer.xml is taken where the package openvino_tokenizers is installed, else the Hugging Face files
    where transformers is.

    Raises:
        InvalidInputError: The folder holds no tokenizer, the package that reads it is not installed, or it fails.
    """
    converted = (folder / "openvino_tokenizer.xml").is_file()
    original = any((folder / name).is_file() for name in _HUGGING_FACE)
    try:
        if converted and importlib.util.find_spec("openvino_tokenizers"):
            return _openvino(folder / "openvino_tokenizer.xml")
        if original and importlib.util.find_spec("transformers"):
            return _transformers(folder)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise InvalidInputError(f"The tokenizer in {folder} failed: {last} (token counts do without one).") from error
    if not converted and not original:
        raise InvalidInputError(
            f"A text prompt needs a tokenizer and {folder} holds none: export the model with its tokenizer, or give "
            "a number of tokens instead of a text."
        )
    needed = ["openvino_tokenizers"] * converted + ["transformers"] * original
    raise InvalidInputError(
        f"A text prompt needs the package {' or '.join(needed)}, which is not installed: `pip install {needed[0]}`, or "
        "give a number of tokens instead of a text."
    )


def _openvino(path: Path) -> Tokenize:
    import openvino as ov

    importlib.import_module("openvino_tokenizers")  # which adds its operations to every Core
    compiled = ov.Core().compile_model(path, "CPU")

    def tokenize(text: str) -> Ids:
        return np.asarray(compiled([text])["input_ids"], np.int64).reshape(1, -1)

    return tokenize


def _transformers(folder: Path) -> Tokenize:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def tokenize(text: str) -> Ids:
        return np.asarray(tokenizer(text)["input_ids"], np.int64).reshape(1, -1)

    return tokenize
