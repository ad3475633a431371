"""The weight formats, one row each: what is stored, and how it becomes f16, f32 and int8.

A new format is a row here, ``raw_NAME`` in cl/weights.cl, and a reader in transformations where its decompression is
not the usual chain. That is enough for every micro-kernel: they take weights by twos. ``f16`` and ``f32`` name faster
ways, for 32 neighbours along K. All tables of cl/ that go by format are written from the rows as definitions.

The oracle (ov_moe.reference) does not import this module: it decodes on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ov_moe.element_types import e8m0, unpack_nibbles
from ov_moe.spec import Precision, ProjectionSpec

Tensor = npt.NDArray[Any]


@dataclass(frozen=True)
class Wide:
    """How 32 neighbours along K become floats together: value = (what the function gives - bias) * unit.

    Attributes:
        function: The end of a function's name in cl/weights_f16.cl or cl/weights_f32.cl.
        bias: Added to every number; zero points are raised by it.
        unit: What a result stands for.
        flip: Bits that are flipped in each 32-bit word as it is loaded: two's complement becomes offset binary.
    """

    function: str
    bias: int = 0
    unit: float = 1.0
    flip: int = 0


@dataclass(frozen=True)
class Int8:
    """How a number fits a signed byte: value = (byte + offset) * unit."""

    offset: int = 0
    unit: float = 1.0


@dataclass(frozen=True)
class WeightFormat:
    """One row.

    Attributes:
        name: The precision; an element type of OpenVINO.
        bits: Of a weight.
        storage: Element type of the buffer that holds the weights.
        signed: Whether integers are two's complement.
        scale: Word of the scales: ``none``, ``some`` (f16 or f32) or ``e8m0`` (bytes of f8e8m0).
        zero_point: Whether a zero point of the same type may be subtracted.
        codes: What each code stands for, where that is no integer.
        f16: The fast way to f16, where there is one.
        f32: The fast way to f32.
        int8: The way to int8, where a byte holds every value.
    """

    name: Precision
    bits: int
    storage: Literal["u8", "i8", "f16", "f32"]
    signed: bool = False
    scale: Literal["none", "some", "e8m0"] = "some"
    zero_point: bool = True
    codes: tuple[float, ...] | None = None
    f16: Wide | None = None
    f32: Wide | None = None
    int8: Int8 | None = None

    @property
    def word(self) -> str:
        """The attribute's word: f16 and f32 share one, which of them a kernel reads is the plugin's choice."""
        return "float" if self.scale == "none" else self.name

    @property
    def packed(self) -> bool:
        """Whether two weights share a byte, the earlier one in the low nibble."""
        return self.bits == 4

    def values(self) -> npt.NDArray[np.float64]:
        """What each code stands for; of formats with scales, before them."""
        if self.codes is not None:
            return np.array(self.codes, np.float64)
        numbers = np.arange(2**self.bits)
        return np.where(self.signed & (numbers >= 2 ** (self.bits - 1)), numbers - 2**self.bits, numbers).astype(float)


_NIBBLES, _BYTES = 0x88888888, 0x80808080
# OCP Microscaling Formats 1.0: a sign, two bits of exponent, one of mantissa.
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# 1024 + q as f16 has q in its lowest bits. e2m1 in the places of f16's bits is the value times 2^-14.
FORMATS: dict[Precision, WeightFormat] = {
    row.name: row
    for row in (
        WeightFormat("f32", 32, "f32", True, scale="none", zero_point=False, f16=Wide("floats"), f32=Wide("floats")),
        WeightFormat("f16", 16, "f16", True, scale="none", zero_point=False, f16=Wide("floats"), f32=Wide("floats")),
        WeightFormat("u8", 8, "u8", f16=Wide("bytes", 1024), f32=Wide("bytes"), int8=Int8(offset=128)),
        WeightFormat("i8", 8, "i8", True, f16=Wide("bytes", 1152, flip=_BYTES), f32=Wide("bytes"), int8=Int8()),
        WeightFormat("u4", 4, "u8", f16=Wide("nibbles", 1024), f32=Wide("nibbles"), int8=Int8()),
        WeightFormat(
            "i4",
            4,
            "u8",
            True,
            f16=Wide("nibbles", 1032, flip=_NIBBLES),
            f32=Wide("nibbles", 8, flip=_NIBBLES),
            int8=Int8(),
        ),
        WeightFormat(
            "f4e2m1",
            4,
            "u8",
            True,
            scale="e8m0",
            zero_point=False,
            codes=(*_E2M1, *(-value for value in _E2M1)),
            f16=Wide("e2m1"),
            f32=Wide("e2m1", unit=16384.0),
            int8=Int8(unit=0.5),
        ),
    )
}
FOUR_BIT = tuple(row.name for row in FORMATS.values() if row.packed)
INTEGERS = tuple(row.name for row in FORMATS.values() if row.zero_point)
FLOATS = tuple(row.name for row in FORMATS.values() if row.scale == "none")
SCALED = tuple(row.name for row in FORMATS.values() if row.scale != "none")


def table(prefix: str, column: Callable[[WeightFormat], object]) -> dict[str, str]:
    """Definitions PREFIX_word, one a format: f16 and f32 are one word and must agree."""
    return {f"{prefix}_{row.word}": str(column(row)) for row in FORMATS.values()}


def wide_tables(prefix: str, way: Callable[[WeightFormat], Wide | None]) -> dict[str, str]:
    """The tables of a fast way; its function is ``twos`` for a format that has none."""
    none = Wide("twos")

    def of(row: WeightFormat) -> Wide:
        return way(row) or none

    return {
        **table(f"{prefix}_WIDE", lambda row: int(way(row) is not None)),
        **table(f"{prefix}_OF", lambda row: of(row).function),
        **table(f"{prefix}_BIAS", lambda row: of(row).bias),
        **table(f"{prefix}_UNIT", lambda row: f"{of(row).unit}f"),
        **table(f"{prefix}_FLIP", lambda row: f"{of(row).flip:#x}u"),
    }


def stored_inputs(spec: ProjectionSpec, experts: int) -> list[tuple[tuple[int, ...], str]]:
    """Shapes and NumPy types of weights, scales (f16 where they are real) and zero points as a kernel takes them.

    What a format lacks is one number.
    """
    row = FORMATS[spec.precision]
    absent = ((1,), "float32")
    types = {"u8": "uint8", "i8": "int8", "f16": "float16", "f32": "float32"}
    values = ((experts, spec.n, spec.k // 2 if row.packed else spec.k), types[row.storage])
    if not spec.group_size:
        return [values, absent, absent]
    groups = experts * spec.n * spec.groups
    zeros = ((-(-groups // 2) if row.packed else groups,), types[row.storage])
    return [values, ((groups,), "uint8" if row.scale == "e8m0" else "float16"), zeros if spec.zero_point else absent]


def decode(spec: ProjectionSpec, values: Tensor, scale: Tensor | None, zero_point: Tensor | None) -> Tensor:
    """Weights [N, K] in float64 of one matrix: (q - zero point) * scale for each group along K.

    Args:
        spec: How they are stored.
        values: The stored weights, flat; packed ones low nibble first.
        scale: N * groups scales, flat; None where the format has none.
        zero_point: As many zero points, one an element, or None.
    """
    row = FORMATS[spec.precision]
    if scale is None:
        return values.reshape(spec.n, spec.k).astype(np.float64)
    numbers = _numbers(row, unpack_nibbles(values, False, spec.n * spec.k) if row.packed else values)
    grouped = numbers.reshape(-1, spec.group_size)
    if zero_point is not None:
        grouped = grouped - _numbers(row, zero_point).reshape(-1, 1)
    factors = e8m0(scale.view(np.uint8)) if row.scale == "e8m0" else scale.astype(np.float64)
    weights: Tensor = (grouped * factors.reshape(-1, 1)).reshape(spec.n, spec.k)
    return weights


def _numbers(row: WeightFormat, codes: Tensor) -> Tensor:
    """What codes stand for: by way of int8 where that holds them, as an integer pipe would."""
    values, codes = row.values(), codes.astype(np.int64) & (2**row.bits - 1)
    if row.int8 is None:
        return values[codes]
    small = (values / row.int8.unit - row.int8.offset).astype(np.int8)
    numbers: Tensor = (small[codes].astype(np.float64) + row.int8.offset) * row.int8.unit
    return numbers
