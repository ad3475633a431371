"""One timed greedy generation. Imports openvino."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from ov_moe.commands.prompts import Ids
from ov_moe.generate import Logits, Session, Tokens, greedy_steps


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
    tokens, step_ms, infer_ms = list[Tokens](), list[float](), list[float]()
    logits: list[Logits] = []
    for step in greedy_steps(session.step, prompt, new_tokens):
        logits = logits or [step.logits[:, -1, :]]
        tokens.append(step.tokens)
        step_ms.append(1e3 * step.step_s)
        infer_ms.append(1e3 * step.infer_s)
    return Generation(np.concatenate(tokens, axis=1).tolist(), logits[0], step_ms, infer_ms)
