"""One timed greedy generation. Imports openvino."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from time import perf_counter

from ov_moe.commands.prompts import Ids
from ov_moe.generate import Logits, Session


@dataclass(frozen=True)
class Generation:
    """The tokens of one generation and what each step took, in milliseconds.

    Attributes:
        tokens: New token ids of each sequence.
        logits: float32 [B,V], at the last position of the prompt.
        step_ms: Each step, choosing the token included.
        infer_ms: The model's part of each step.
    """

    tokens: list[list[int]]
    logits: Logits
    step_ms: list[float]
    infer_ms: list[float]

    def md5(self) -> str:
        """Of the token ids as decimal numbers between spaces, one sequence a line."""
        text = "\n".join(" ".join(map(str, sequence)) for sequence in self.tokens)
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def generate(session: Session, prompt: Ids, new_tokens: int) -> Generation:
    """Reset the session and generate that many tokens, the most likely one each time; nothing ends earlier."""
    session.reset()
    tokens: list[list[int]] = [[] for _ in prompt]
    step_ms, infer_ms = list[float](), list[float]()
    first: Logits | None = None
    ids = prompt
    for _ in range(new_tokens):
        start = perf_counter()
        logits = session.step(ids)
        inferred = perf_counter()
        ids = logits[:, -1:, :].argmax(axis=-1)
        step_ms.append(1e3 * (perf_counter() - start))
        infer_ms.append(1e3 * (inferred - start))
        first = logits[:, -1, :] if first is None else first
        for sequence, token in zip(tokens, ids[:, 0].tolist(), strict=True):
            sequence.append(token)
    assert first is not None, "new_tokens is at least 1"
    return Generation(tokens, first, step_ms, infer_ms)
