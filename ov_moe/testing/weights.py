"""Stored weights of the test models: what their constants hold, and the chain that makes floats of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset15 as ops

from ov_moe.spec import Precision
from ov_moe.testing.nodes import named

RANGES = {"u4": (0, 15), "i4": (-8, 7), "u8": (0, 255), "i8": (-128, 127)}
PACKED = ("u4", "i4", "f4e2m1")
E2M1_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class RawWeights:
    """What a projection's constants hold: values [E, N, K], scale and zero point [E, N, G] (or None).

    The scale is f16; of f4e2m1 weights, whose values are the 16 codes, it is the bytes of f8e8m0 as u8.
    """

    precision: Precision
    values: NDArray[np.generic]
    scale: NDArray[np.generic] | None = None
    zero_point: NDArray[np.int64] | None = None

    def dense(self) -> NDArray[np.float64]:
        """The float64 [E, N, K] that the constants stand for, without any rounding on the way."""
        if self.scale is None:
            return np.asarray(self.values, np.float64)
        experts, n, k = self.values.shape
        grouped = self.values.reshape(experts, n, self.scale.shape[2], -1).astype(np.float64)
        if self.precision == "f4e2m1":
            codes = grouped.astype(np.int64)
            grouped = np.where(codes > 7, -1.0, 1.0) * np.array(E2M1_MAGNITUDES)[codes % 8]
            grouped = grouped * 2.0 ** (self.scale[..., None].astype(np.float64) - 127)
            return np.asarray(grouped.reshape(experts, n, k), np.float64)
        if self.zero_point is not None:
            grouped = grouped - self.zero_point[..., None]
        whole: NDArray[np.float64] = (grouped * self.scale[..., None].astype(np.float64)).reshape(experts, n, k)
        return whole


def random_weights(
    rng: np.random.Generator,
    precision: Precision,
    *,
    experts: int,
    n: int,
    k: int,
    group: int,
    symmetric: bool,
) -> RawWeights:
    """Weights of a standard deviation of about 1 / sqrt(K); ``group`` 0 means one scale a channel."""
    if precision in ("f32", "f16"):
        dense = rng.standard_normal((experts, n, k)) / k**0.5
        return RawWeights(precision, dense.astype(np.float16 if precision == "f16" else np.float32))
    groups = (experts, n, k // (group or k))
    if precision == "f4e2m1":
        exponent = 127 + round(np.log2(1 / (3 * k**0.5)))
        codes = rng.integers(0, 16, (experts, n, k))
        return RawWeights(precision, codes, rng.integers(exponent - 1, exponent + 2, groups).astype(np.uint8))
    low, high = RANGES[precision]
    values = rng.integers(low, high + 1, (experts, n, k))
    scale = rng.uniform(0.7, 1.3, groups) * 3.4 / (high - low) / k**0.5
    zero_point = None
    if not symmetric and low == 0:
        zero_point = rng.integers(high // 2 - high // 8, high // 2 + high // 8 + 2, groups)
    return RawWeights(precision, values, scale.astype(np.float16), zero_point)


def pack(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """4-bit integers or codes to bytes, the first of two in the low nibble."""
    nibbles = np.bitwise_and(values.reshape(-1).astype(np.int64), 15).astype(np.uint8)
    nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8))
    packed: NDArray[np.uint8] = nibbles[0::2] | nibbles[1::2] * np.uint8(16)
    return packed


def integer_constant(values: NDArray[np.generic], precision: str, shape: Sequence[int]) -> ov.op.Constant:
    """A constant of u4, i4, u8 or i8, or of f4e2m1 or f8e8m0 from their codes, that owns its bytes."""
    if precision in (*PACKED, "f8e8m0"):
        data = pack(values) if precision in PACKED else values.reshape(-1).astype(np.uint8)
        stored = ov.Tensor(data, ov.Shape(list(shape)), getattr(ov.Type, precision))
        return ov.op.Constant(stored, shared_memory=False)
    return ov.op.Constant(values.reshape(shape).astype(np.int8 if precision == "i8" else np.uint8))


def decompressed(raw: RawWeights, name: str, expert: int | None = None) -> ov.Node:
    """The chain from the constants to f32 [E, N, K], or to [N, K] of one expert."""

    def stored(array: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.ascontiguousarray(array if expert is None else array[expert])

    values = stored(raw.values)
    if raw.scale is None:
        dense = named(ov.op.Constant(values), name)
        return dense if raw.precision == "f32" else named(ops.convert(dense, "f32"), f"{name}/convert")
    *rows, k = values.shape
    groups = raw.scale.shape[2]
    grouped = rows if groups == 1 else [*rows, groups]
    value = ops.convert(named(integer_constant(values, raw.precision, [*grouped, k // groups]), name), "f16")
    if raw.zero_point is not None:
        zero_point = integer_constant(stored(raw.zero_point), raw.precision, [*grouped, 1])
        zero_point = ops.convert(named(zero_point, f"{name}/zero_point"), "f16")
        value = named(ops.subtract(value, zero_point), f"{name}/zero_point/subtract")
    scale = stored(raw.scale)
    if raw.precision == "f4e2m1":
        factor = ops.convert(named(integer_constant(scale, "f8e8m0", [*grouped, 1]), f"{name}/scale"), "f16")
    else:
        factor = named(ov.op.Constant(scale.reshape(*grouped, 1)), f"{name}/scale")
    value = named(ops.multiply(value, factor), f"{name}/fq_weights_1")
    if groups > 1:
        value = named(ops.reshape(value, [*rows, k], special_zero=False), f"{name}/reshape")
    return named(ops.convert(value, "f32"), f"{name}/fq_weights_1/convert")
