"""A u8 constant over the bytes of another constant: the same memory, kept alive, never copied."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import numpy as np
from openvino.op import Constant

from ov_moe.kernels.formats import FORMATS, SCALED

from .not_matched import NotMatched
from .walk import element_type

# Of an element: the narrowest formats first, and the bytes of scales.
BITS = {**{name: FORMATS[name].bits for name in sorted(SCALED, key=lambda name: FORMATS[name].bits)}, "f8e8m0": 8}


def as_u8(constant: Constant, shape: Sequence[int] | None = None) -> Constant:
    """A u8 Constant over the memory of a Constant of any type in ``BITS``.

    The obvious ways fail in openvino 2026.4: sharing ``constant.data`` is refused (read-only),
    ``op.constant`` copies, and a Tensor over the array or ``get_tensor_view()`` inside a Constant dangles
    once the model is gone. Here the buffer that the new Constant shares holds the old one.

    Args:
        constant: [E, N, ...] with elements packed along the last axis, 4-bit ones low nibble first.
        shape: Shape of the result, as many bytes as the constant has. By default [E, N, bytes a row],
            which is [E, N, K/2] for 4-bit weights, grouped or not.

    Returns:
        A new u8 Constant, not part of any model. It alone keeps the bytes alive.

    Raises:
        NotMatched: The element type is none of these, the rows of a 4-bit constant do not start at a byte
            (then ask for a flat ``shape``), or ``shape`` has another number of bytes.
    """
    precision = element_type(constant.output(0))
    if precision not in BITS:
        raise NotMatched(f"is {precision}, not one of {', '.join(BITS)}", constant)
    size = int(constant.get_byte_size())
    wanted = _rows(constant, BITS[precision]) if shape is None else [int(d) for d in shape]
    if math.prod(wanted) != size:
        raise NotMatched(f"has {size} bytes, which do not make shape {wanted}", constant)
    buffer = (ctypes.c_uint8 * size).from_address(constant.data.ctypes.data)
    # Constant holds the array, the array the buffer, the buffer the old constant, which owns the bytes.
    buffer._keep = constant  # type: ignore[attr-defined]
    result = Constant(np.frombuffer(memoryview(buffer), np.uint8).reshape(wanted), shared_memory=True)
    result.set_friendly_name(constant.get_friendly_name())
    return result


def _rows(constant: Constant, bits: int) -> list[int]:
    """[E, N, bytes a row]."""
    shape = [int(d) for d in constant.shape]
    if len(shape) < 3:
        raise NotMatched(f"has shape {shape}, not [E, N, ...]", constant)
    row = math.prod(shape[2:]) * bits
    if row % 8:
        raise NotMatched(f"has rows of {row // bits} 4-bit elements, not whole bytes", constant)
    return [shape[0], shape[1], row // 8]
