"""Reads the decompression chain behind the weight matrix of one expert: ``read_weights`` without the axis E."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import openvino as ov
from openvino.op import Constant

from ov_moe.spec import Precision, ProjectionSpec

from .not_matched import NotMatched
from .walk import Walk, dims, element_type, expect
from .weights import FOUR_BIT, _before_float_converts, _floats, _integers, _operands, _scale


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


def read_projection(walk: Walk, output: ov.Output, role: str) -> tuple[ov.Output, MatrixWeights]:
    """(input, weights) of a MatMul with the weights [N, K] of one expert.

    Args:
        walk: Gathers the MatMul.
        output: [rows, N].
        role: What the projection stands for, e.g. ``the gate projection of expert 3``.

    Raises:
        NotMatched: It is no MatMul, transposes anything but the weights, or these cannot be read.
    """
    node = walk.enter(output, "MatMul", role)
    attributes = node.get_attributes()
    if attributes["transpose_a"]:
        raise NotMatched("has transpose_a = true", node)
    if not attributes["transpose_b"]:
        raise NotMatched("has transpose_b = false", node)
    return node.input_value(0), read_matrix(node.input_value(1))


def read_matrix(output: ov.Output) -> MatrixWeights:
    """Reads what feeds the weight input of one expert's MatMul.

    The chains are those of ``read_weights``, with [N, K] in place of [E, N, K] and [N, G, group] in place of
    [E, N, G, group]; read from Mixtral and Qwen2-MoE (transformers 4.57) and from GraniteMoE.

    Args:
        output: Static [N, K] floats.

    Returns:
        The constants of the chain and their description; nothing is copied or changed.

    Raises:
        NotMatched: Naming the first node that does not belong to such a chain, or 4-bit rows or groups of an
            odd number of elements.
    """
    shape = dims(output)
    if len(shape) != 2 or None in shape:
        raise NotMatched(f"gives weights of shape {list(shape)}, not a static [N, K]", output.get_node())
    n, k = cast("tuple[int, int]", shape)
    inner = _before_float_converts(output)
    if inner.get_node().get_type_name() == "Constant":
        floats = _floats(inner.get_node(), n, k)
        return MatrixWeights(floats.spec, floats.values, None, None)
    if inner.get_node().get_type_name() == "Reshape":
        inner = _before_float_converts(inner.get_node().input_value(0))
    stored, scale_output = _operands(expect(inner, "Multiply", "the scaling of the weights"))
    values, zero_point = _integers(stored)
    scale = _scale(scale_output, element_type(values.output(0)))
    group_size = _group_size(values, n, k)
    for companion in (scale, zero_point):
        if companion is not None and list(companion.shape) != [*values.shape[:-1], 1]:
            raise NotMatched(
                f"has shape {list(companion.shape)} beside values of shape {list(values.shape)}", companion
            )
    precision = cast(Precision, element_type(values.output(0)))
    return MatrixWeights(ProjectionSpec(precision, n, k, group_size, zero_point is not None), values, scale, zero_point)


def expect_matrix(weights: MatrixWeights, n: int, k: int, role: str) -> None:
    """Raises ``NotMatched`` unless the matrix is [n, k]."""
    if (weights.spec.n, weights.spec.k) != (n, k):
        found = [weights.spec.n, weights.spec.k]
        raise NotMatched(f"holds {role} of [N, K] = {found} where the block needs {[n, k]}", weights.values)


def _group_size(values: Constant, n: int, k: int) -> int:
    """Elements of K a scale; raises when the stored shape is neither [N, K] nor [N, G, group]."""
    shape = [int(d) for d in values.shape]
    grouped = len(shape) == 3 and shape[0] == n and shape[1] * shape[2] == k
    if shape != [n, k] and not grouped:
        raise NotMatched(f"holds shape {shape}, which is not [{n}, {k}] nor its groups", values)
    if element_type(values.output(0)) in FOUR_BIT and shape[-1] % 2:
        raise NotMatched(f"has 4-bit rows or groups of {shape[-1]} elements, not whole bytes", values)
    return shape[-1]
