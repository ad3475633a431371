"""Compares a rewritten language model with the unfused one, token by token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from ov_moe.generate import Session

MODELS = Path(__file__).parents[3] / "shared" / "models"
# Architecture, experts and precision (tf457: exported with transformers 4.57) -> blocks that must be rewritten: both
# layers, but of AFMoE and LFM2-MoE, whose first layer is dense.
BLOCKS = {
    "afmoe-e8-int4": 1,
    "gptoss-e32-int4": 2,
    "gptoss-e4-fp16": 2,
    "gptoss-e4-int4": 2,
    "gptoss-e4-int4sym": 2,
    "gptoss-e4-int8": 2,
    "gptoss-e4-mxfp4": 2,
    "granitemoe-e8-fp16": 2,
    "granitemoe-e8-int4": 2,
    "lfm2moe-e8-int4": 1,
    "mixtral-e8-fp16": 2,
    "mixtral-e8-int4": 2,
    "phimoe-e8-int4": 2,
    "qwen2moe-e8-int4": 2,
    "qwen2moe-e8-int8": 2,
    "qwen3moe-e64-int4": 2,
    "qwen3moe-e8-fp16": 2,
    "qwen3moe-e8-fp32": 2,
    "qwen3moe-e8-int4": 2,
    "qwen3moe-e8-int4cw": 2,
    "qwen3moe-e8-int4g64": 2,
    "qwen3moe-e8-int4r06": 2,
    "qwen3moe-e8-int4sym": 2,
    "qwen3moe-e8-int8": 2,
    "qwen3moe-e8-int8sym": 2,
    "qwen3moe-e8-mxfp4": 2,
    "qwen3moe-e8-nonorm-int4": 2,
    "tf457-mixtral-e8-int4": 2,
    "tf457-qwen2moe-e8-int4": 2,
    "tf457-qwen3moe-e8-int4": 2,
}
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


__all__ = ["BLOCKS", "EXACT", "MODELS", "Any", "Difference", "difference", "logits", "read", "vocabulary_of"]
