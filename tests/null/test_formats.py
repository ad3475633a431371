"""The table of formats and the oracle's decoder, each against a decoder of somebody else's: ml_dtypes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from blocks import pack

from ov_moe import reference
from ov_moe.element_types import e8m0, unpack_nibbles
from ov_moe.kernels.formats import FLOATS, FORMATS, INTEGERS, SCALED, decode
from ov_moe.spec import ProjectionSpec

BYTES = np.arange(256, dtype=np.uint8)


def type_of(precision: str) -> Any:
    """NumPy's, or that of ml_dtypes, which says of floats that they have no infinities."""
    if precision.startswith("f"):
        return getattr(ml_dtypes, f"float{precision[1]}_{precision[2:]}fn")
    word = precision.replace("u", "ui").replace("i", "int")
    return getattr(ml_dtypes, word, None) or np.dtype(word)


def meant(precision: str, codes: np.ndarray) -> np.ndarray:
    """What codes stand for, in float64."""
    return codes.astype(np.uint8).view(type_of(precision)).astype(np.float64)


@pytest.mark.parametrize("precision", SCALED)
def test_every_code_of_a_row(precision: str) -> None:
    row = FORMATS[precision]
    bits = (ml_dtypes.iinfo if row.codes is None else ml_dtypes.finfo)(type_of(precision)).bits
    assert row.bits == bits
    np.testing.assert_array_equal(row.values(), meant(precision, BYTES[: 2**row.bits]))


@pytest.mark.parametrize("precision", [name for name in SCALED if FORMATS[name].int8 is not None])
def test_a_byte_holds_every_value_where_a_row_says_so(precision: str) -> None:
    way = FORMATS[precision].int8
    assert way is not None
    values = meant(precision, BYTES[: 2 ** FORMATS[precision].bits])
    small = values / way.unit - way.offset
    assert np.abs(small + 0.5).max() <= 127.5
    np.testing.assert_array_equal((small.astype(np.int8).astype(np.float64) + way.offset) * way.unit, values)


def test_codes_of_the_oracle() -> None:
    for precision, codes in reference.CODES.items():
        np.testing.assert_array_equal(codes, meant(precision, BYTES[: codes.size]))


def test_scales_that_are_powers_of_two() -> None:
    """2^-127 and NaN among them."""
    found, expected = e8m0(BYTES), BYTES.view(ml_dtypes.float8_e8m0fnu).astype(np.float64)
    assert np.isnan(found).sum() == 1
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("precision", ["u4", "i4"])
def test_nibbles_come_low_first(precision: str) -> None:
    codes = np.stack([BYTES & 15, BYTES >> 4], axis=1).reshape(-1)
    np.testing.assert_array_equal(unpack_nibbles(BYTES, precision == "i4", 512), meant(precision, codes))
    np.testing.assert_array_equal(unpack_nibbles(BYTES, precision == "i4", 511), meant(precision, codes[:511]))


@pytest.mark.parametrize(
    ("precision", "zero_point"), [(name, some) for name in SCALED for some in (False, True)[: 1 + (name in INTEGERS)]]
)
@pytest.mark.parametrize("group", [6, 18])
def test_matrices(precision: str, zero_point: bool, group: int, rng: np.random.Generator) -> None:
    """The oracle decodes all experts, the rows one: an odd number of zero points, which the oracle takes packed."""
    row, (experts, n, k) = FORMATS[precision], (3, 5, 18)
    spec, groups = ProjectionSpec(precision, n, k, group, zero_point), (experts, n, k // group)
    codes, zeros = rng.integers(0, 2**row.bits, (experts, n, k)), rng.integers(0, 2**row.bits, groups)
    exponents, halves = rng.integers(120, 135, groups).astype(np.uint8), rng.uniform(0.1, 2, groups).astype(np.float16)
    scale = exponents if row.scale == "e8m0" else halves
    factors = (exponents.view(ml_dtypes.float8_e8m0fnu) if row.scale == "e8m0" else halves).astype(np.float64)
    numbers = meant(precision, codes).reshape(*groups, group)
    expected = (numbers - (meant(precision, zeros)[..., None] if zero_point else 0)) * factors[..., None]
    expected = expected.reshape(experts, n, k)

    def stored(values: np.ndarray) -> np.ndarray:
        return (
            pack(values) if row.packed else values.astype(np.uint8).view(np.int8 if row.storage == "i8" else np.uint8)
        )

    found = reference.dequantize(spec, stored(codes), scale, stored(zeros) if zero_point else None)
    np.testing.assert_array_equal(found, expected)
    for expert in range(experts):
        found = decode(spec, stored(codes[expert]), scale[expert].reshape(-1), zeros[expert] if zero_point else None)
        np.testing.assert_array_equal(found, expected[expert])


def test_rows_of_one_word_differ_in_nothing_that_a_kernel_is_told() -> None:
    """The tables of cl/ go by the word: f16 and f32 share one."""
    words = [row.word for row in FORMATS.values()]
    assert {row.name for row in FORMATS.values() if words.count(row.word) > 1} == set(FLOATS)
    assert len({(row.f16, row.f32, row.packed, row.scale) for row in map(FORMATS.get, FLOATS)}) == 1
