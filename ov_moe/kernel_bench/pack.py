"""The packed layout of 4-bit weights for the micro-kernel mma (cl/mma_weights.cl here), and its exact inverse.

As stored, the 16 bytes of K that a work-item copies stand K / 2 bytes apart, and a lane takes its eight weights from
four words. Packed, the copies of neighbouring columns are neighbours, and a lane's weights are one word.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from ov_moe.arguments import check_word
from ov_moe.element_types import e8m0, unpack_nibbles
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.exponents import F16_MAX
from ov_moe.kernels.formats import FOUR_BIT
from ov_moe.spec import GateUpLayout, Precision, ProjectionSpec

Bytes = npt.NDArray[np.uint8]

# Place, among the 32 nibbles of a unit, of element k: word k % 8 // 2 is the lane's, elements k and k + 1 are 16 bits
# apart in it.
_K = np.arange(32)
_PLACE = _K % 8 // 2 * 8 + _K % 2 * 4 + _K // 8
E2M1_FACTOR = 2.0**14  # see ov_moe/kernel_bench/cl/mma_weights.cl


def pack_weights(stored: Bytes, precision: Precision) -> Bytes:
    """4-bit weights [E, N, K / 2] as stored, low nibble first, to the same number of bytes [E, K / 32, N, 16].

    ``i4`` becomes offset binary, q + 8. K is a multiple of 32. Raises InvalidInputError for weights of other sizes.
    """
    check_word("precision of packed weights", precision, FOUR_BIT)
    experts, n, size = stored.shape
    flat = (stored ^ np.uint8(0x88) if precision == "i4" else stored).reshape(experts, n, size // 16, 16)
    nibbles = np.stack([flat & 15, flat >> 4], -1).reshape(experts, n, size // 16, 32)
    placed = np.empty_like(nibbles)
    placed[..., _PLACE] = nibbles
    return np.ascontiguousarray((placed[..., 0::2] | placed[..., 1::2] << 4).transpose(0, 2, 1, 3))


def unpack_weights(packed: Bytes, precision: Precision) -> Bytes:
    """The inverse of ``pack_weights``: [E, N, K / 2]; refuses what that does."""
    check_word("precision of packed weights", precision, FOUR_BIT)
    experts, units, n, _ = packed.shape
    flat = packed.transpose(0, 2, 1, 3)
    nibbles = np.stack([flat & 15, flat >> 4], -1).reshape(experts, n, units, 32)[..., _PLACE]
    stored: Bytes = (nibbles[..., 0::2] | nibbles[..., 1::2] << 4).reshape(experts, n, units * 16)
    return stored ^ np.uint8(0x88) if precision == "i4" else stored


def pack_projection(
    spec: ProjectionSpec,
    values: Bytes,
    scale: npt.NDArray[Any],
    zero_point: Bytes | None,
    layout: GateUpLayout = "separate",
) -> tuple[Bytes, npt.NDArray[np.int32]]:
    """One projection as the micro-kernel takes it; interleaved rows of gate and up become halves.

    Args:
        spec: How it is stored: 4 bits, K a multiple of 32.
        values: [E, N, K / 2], in any shape.
        scale: E * N * groups scales in any shape, f16, f32 or the bytes of f8e8m0.
        zero_point: As many 4-bit zero points, flat and packed like the weights, or None.
        layout: Where the rows of gate and up stand.

    Returns:
        Weights [E, K / 32, N, 16] u8, and words [E, groups, N] i32: the scale in f16 in the low half, 1024 + zero point
        in f16 in the high half.

    Raises:
        InvalidInputError: A scale is beyond f16, the weights are not of 4 bits, or the layout is not known.
    """
    check_word("layout", layout, get_args(GateUpLayout))
    check_word("precision of packed weights", spec.precision, FOUR_BIT)
    offset = 8 if spec.precision == "i4" else 0  # offset binary
    real = e8m0(scale.view(np.uint8)) * E2M1_FACTOR if spec.precision == "f4e2m1" else scale
    if np.any(np.abs(real) > F16_MAX):
        raise InvalidInputError(
            f"{spec.label()} weights have a scale that, times {E2M1_FACTOR if spec.precision == 'f4e2m1' else 1:g}, is "
            "beyond f16, in which mma multiplies: choose another micro-kernel."
        )
    bits = real.astype(np.float16).view(np.uint16).astype(np.uint32)
    points = np.zeros(scale.size, np.int64)
    if zero_point is not None:
        points = unpack_nibbles(zero_point, spec.precision == "i4", scale.size)
    words = bits.reshape(-1) | (0x6400 + offset + points).astype(np.uint32) << 16
    rows = values.reshape(-1, spec.n, spec.k // 2)
    words = words.reshape(-1, spec.n, spec.groups)
    if layout == "interleaved":
        rows, words = (np.concatenate([part[:, 0::2], part[:, 1::2]], axis=1) for part in (rows, words))
    packed = pack_weights(rows, spec.precision)
    return packed, np.ascontiguousarray(words.transpose(0, 2, 1)).view(np.int32)
