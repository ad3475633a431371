"""Reads the decompression chain behind the weight matrix of one expert: ``read_weights`` without the axis E."""

from __future__ import annotations

from dataclasses import dataclass

import openvino as ov
from openvino.op import Constant

from ov_moe.spec import ProjectionSpec

from ..not_matched import NotMatched
from ..weights import read_chain


@dataclass(frozen=True, eq=False)
class MatrixWeights:
    """One projection of one expert, as the model's own constants.

    Attributes:
        spec: Element type, N, K, group size and zero point.
        values: [N, K], or [N, G, group] for grouped integers.
        scale: f16 or f32, f8e8m0 for f4e2m1; [N, 1] or [N, G, 1]; None for f16 and f32 weights.
        zero_point: Element type of ``values``, shape of ``scale``; None when nothing is subtracted.
    """

    spec: ProjectionSpec
    values: Constant
    scale: Constant | None
    zero_point: Constant | None


def read_matrix(output: ov.Output) -> MatrixWeights:
    """Reads what feeds the weight input of one expert's MatMul: ``read_chain`` of static [N, K] floats.

    Read from Mixtral and Qwen2-MoE (transformers 4.57) and from GraniteMoE.
    """
    return MatrixWeights(*read_chain(output, ("N", "K")))


def expect_matrix(weights: MatrixWeights, n: int, k: int, role: str) -> None:
    """Raises ``NotMatched`` unless the matrix is [n, k]."""
    if (weights.spec.n, weights.spec.k) != (n, k):
        found = [weights.spec.n, weights.spec.k]
        raise NotMatched(f"holds {role} of [N, K] = {found} where the block needs {[n, k]}", weights.values)
