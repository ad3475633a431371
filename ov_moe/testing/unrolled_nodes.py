"""Small nodes of the unrolled test models: constants, shapes and the weight matrix of one expert."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from ov_moe.testing.weights import RawWeights, integer_constant, named


def integer(value: int) -> ov.Node:
    """An i64 scalar."""
    return ops.constant(np.int64(value))


def vector(*values: int, kind: Any = np.int64) -> ov.Node:
    """An integer constant of rank 1."""
    return ops.constant(np.array(values, kind))


def rows_of_value(value: ov.Node) -> ov.Node:
    """i64 [1], the number of tokens B * S of [B, S, H]."""
    shape = ops.shape_of(value)
    batch, length = (ops.gather(shape, integer(axis), integer(0)) for axis in (0, 1))
    return ops.multiply(ops.reshape(batch, vector(1), special_zero=False), ops.unsqueeze(length, integer(0)))


def matrix(raw: RawWeights, expert: int, name: str) -> ov.Node:
    """The chain from one expert's constants to f32 [N, K]."""
    values = raw.values[expert]
    if raw.scale is None:
        stored = named(ov.op.Constant(np.ascontiguousarray(values)), name)
        return stored if raw.precision == "f32" else named(ops.convert(stored, "f32"), f"{name}/convert")
    (n, k), groups = values.shape, raw.scale.shape[2]
    grouped = [n] if groups == 1 else [n, groups]
    stored = named(integer_constant(values, raw.precision, [*grouped, k // groups]), name)
    value = ops.convert(stored, "f16")
    if raw.zero_point is not None:
        zero_point = integer_constant(raw.zero_point[expert], raw.precision, [*grouped, 1])
        zero_point = ops.convert(named(zero_point, f"{name}/zero_point"), "f16")
        value = named(ops.subtract(value, zero_point), f"{name}/zero_point/subtract")
    if raw.precision == "f4e2m1":
        scale = ops.convert(named(integer_constant(raw.scale[expert], "f8e8m0", [*grouped, 1]), f"{name}/scale"), "f16")
    else:
        scale = named(ov.op.Constant(np.ascontiguousarray(raw.scale[expert].reshape(*grouped, 1))), f"{name}/scale")
    value = named(ops.multiply(value, scale), f"{name}/fq_weights_1")
    if groups > 1:
        value = named(ops.reshape(value, [n, k], special_zero=False), f"{name}/reshape")
    return named(ops.convert(value, "f32"), f"{name}/fq_weights_1/convert")
