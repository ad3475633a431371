"""Element types that NumPy lacks: 4-bit values two to a byte, and the scales of OCP Microscaling Formats 1.0."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def unpack_nibbles(packed: npt.NDArray[np.uint8], signed: bool, count: int) -> npt.NDArray[np.int64]:
    """Flat 4-bit values, low nibble first, from bytes: ``count`` of them, two's complement if ``signed``."""
    flat = packed.reshape(-1)
    values = np.stack([flat & 15, flat >> 4], axis=1).reshape(-1)[:count].astype(np.int64)
    if signed:
        values = np.where(values > 7, values - 16, values)
    return values


def e8m0(exponents: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Scales of the type f8e8m0 from their bytes: 2^(byte - 127); 255 is NaN."""
    return np.where(exponents == 255, np.nan, np.ldexp(1.0, exponents.astype(np.int64) - 127))
