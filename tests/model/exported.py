"""Compares a rewritten language model with the unfused one, token by token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from ov_moe.generate import Session

MODELS = Path(__file__).parents[3] / "shared" / "models"
# The CPU plugin quantises activations of int4 models and keeps its cache in 8 bits unless told otherwise: with
# the precision hint alone, its logits are off by up to 55 %.
EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}
# (batch, prompt length): a prefill of 20 tokens, one of another length, a batch of two; 3 decode steps each.
RUNS = ((1, 20), (1, 13), (2, 9))
DECODE_STEPS = 3


@dataclass(frozen=True)
class Difference:
    """Largest |logit error| / largest |logit|, and whether the best token was the same at every position."""

    error: float
    same_tokens: bool


def read(core: ov.Core, name: str) -> ov.Model:
    """An exported model by its folder's name."""
    return core.read_model(MODELS / name / "openvino_model.xml")


def logits(compiled: ov.CompiledModel, vocabulary: int, seed: int = 7) -> list[np.ndarray]:
    """Logits of every run of RUNS over tokens that follow from the seed."""
    rng = np.random.default_rng(seed)
    results: list[np.ndarray] = []
    for batch, length in RUNS:
        session = Session(compiled, batch)
        for step in range(1 + DECODE_STEPS):
            tokens = rng.integers(3, vocabulary, (batch, length if step == 0 else 1))
            results.append(session.step(tokens).copy())
    return results


def difference(results: list[np.ndarray], expected: list[np.ndarray]) -> Difference:
    """The worst over all runs."""
    pairs = list(zip(results, expected, strict=True))
    error = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)
    return Difference(error, all((a.argmax(-1) == b.argmax(-1)).all() for a, b in pairs))


def vocabulary_of(model: ov.Model) -> int:
    """Size of the last dimension of the logits."""
    return int(model.output("logits").get_partial_shape()[2].get_length())


__all__ = ["EXACT", "MODELS", "Any", "Difference", "difference", "logits", "read", "vocabulary_of"]
