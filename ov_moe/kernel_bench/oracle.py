"""What a sample of tokens must come out as, in float64: one pass over the experts serves every case of a shape."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ov_moe import reference
from ov_moe.devices.opencl import Tensor
from ov_moe.kernel_bench.weights import ABSENT, StoredBlock

SAMPLE = 64  # tokens at least, or all where there are fewer


@dataclass(frozen=True)
class Sample:
    """Some tokens of a case.

    Attributes:
        tokens: Which they are, [S].
        x: [S, H].
        ids: [S, k].
        weights: Top-k weights [S, k].
    """

    tokens: npt.NDArray[np.int64]
    x: Tensor
    ids: npt.NDArray[np.int32]
    weights: Tensor


def sample(rng: np.random.Generator, x: Tensor, ids: npt.NDArray[np.int32], weights: Tensor) -> Sample:
    """SAMPLE random tokens, and the first and the last one."""
    tokens = ids.shape[0]
    chosen = rng.permutation(tokens)[:SAMPLE]
    chosen = np.unique(np.append(chosen, [0, tokens - 1]))
    return Sample(chosen, x[chosen], ids[chosen], weights[chosen])


def expected(block: StoredBlock, samples: Sequence[Sample]) -> list[reference.Array]:
    """y [S, H] of each sample in float64. Each expert is dequantised once; threads share the experts."""
    x = np.concatenate([part.x for part in samples]).astype(np.float64)
    ids = np.concatenate([part.ids for part in samples])
    weights = np.concatenate([part.weights for part in samples]).astype(np.float64)
    y = np.zeros_like(x)

    def contribution(expert: int) -> tuple[npt.NDArray[Any], reference.Array]:
        token, slot = np.nonzero(ids == expert)
        return token, expert_output(block, expert, x[token]) * weights[token, slot, None]

    with ThreadPoolExecutor(threads()) as pool:
        for token, rows in pool.map(contribution, map(int, np.unique(ids[ids >= 0]))):
            np.add.at(y, token, rows)
    return list(_split(y, [part.tokens.size for part in samples]))


def expert_output(block: StoredBlock, expert: int, x: reference.Array) -> reference.Array:
    """d [S, H] of one expert for the tokens x [S, H]."""
    spec = block.spec
    if block.up is None:
        both = block.gate.dense(expert)[None]
        bias = np.zeros(both.shape[:2]) if block.gate_bias is ABSENT else block.gate_bias[None, expert]
        gate, up = (part[0] for part in reference.split_gate_up(both, spec.layout))
        gate_bias, up_bias = (part[0] for part in reference.split_gate_up(bias.astype(np.float64), spec.layout))
        h = reference.activate(spec.activation, x @ gate.T + gate_bias, x @ up.T + up_bias)
    else:
        h = reference.activate(spec.activation, x @ block.gate.dense(expert).T, x @ block.up.dense(expert).T)
    d: reference.Array = h @ block.down.dense(expert).T
    return d if block.down_bias is ABSENT else d + block.down_bias[expert].astype(np.float64)


def tolerance(hidden: int, intermediate: int, eps: float) -> float:
    """How far y of a token may be from the oracle, as a share of its Euclidean norm.

    Half an ``eps`` of the buffers' type is lost where weights, h, d and y are rounded, and sqrt(K) half eps of fp32 in
    sums: their squares add up to about twice that. 8 times leaves no place for one wrong column of h.
    """
    sums = np.finfo(np.float32).eps / 2 * np.sqrt(max(hidden, intermediate))
    return float(8 * (eps / 2 + sums))


def relative_error(y: Tensor, exact: reference.Array) -> float:
    """The largest |y - exact| / |exact| over tokens, in Euclidean norms; NaN where y has one."""
    off = np.linalg.norm(y.astype(np.float64) - exact, axis=1)
    return float((off / np.maximum(np.linalg.norm(exact, axis=1), 1e-300)).max(initial=0.0))


def _split(y: reference.Array, sizes: Sequence[int]) -> Iterator[reference.Array]:
    begin = 0
    for size in sizes:
        yield y[begin : begin + size]
        begin += size


def threads() -> int:
    """How many threads share the experts."""
    return max(1, min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16))
