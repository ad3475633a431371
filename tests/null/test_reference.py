"""The oracle itself, against loops too simple to be wrong."""

from __future__ import annotations

import math
from typing import Any

import bounds
import numpy as np
import pytest
from blocks import pack, random_projection
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ov_moe import reference
from ov_moe.element_types import unpack_nibbles
from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench.pack import pack_projection, pack_weights, unpack_weights
from ov_moe.kernel_bench.weights import random_stored
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.plan import PlanLayout
from ov_moe.spec import Activation, ProjectionSpec

FORMATS = [(kind, group, zero) for kind in ("u8", "i8", "u4", "i4") for group in (0, 6) for zero in (False, True)]


def element(stored: np.ndarray, kind: str, index: int) -> int:
    """Element ``index`` of a flat constant of this type."""
    raw = stored.reshape(-1).view(np.uint8)
    if kind in ("u8", "i8"):
        value, top = int(raw[index]), 256
    else:
        value, top = (int(raw[index // 2]) >> 4 * (index % 2)) % 16, 16
    return value - top if kind[0] == "i" and value >= top // 2 else value


@pytest.mark.parametrize(("kind", "group", "zero"), FORMATS)
def test_dequantize_equals_one_weight_at_a_time(kind: str, group: int, zero: bool, rng: np.random.Generator) -> None:
    """3 experts x 5 rows: an odd number of channels, so that zero points of 4 bits end within a byte."""
    experts, n, k = 3, 5, 18
    part = random_projection(rng, experts, n, k, kind, group, zero)
    values, scale, zeros = part.arrays
    width, flat_scale = group or k, scale.reshape(-1)
    for e in range(experts):
        for row in range(n):
            for column in range(k):
                g = (e * n + row) * (k // width) + column // width
                q = element(values, kind, (e * n + row) * k + column)
                z = element(zeros, kind, g) if zero else 0
                assert part.dense[e, row, column] == (q - z) * float(flat_scale[g])


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_real_weights_are_taken_as_they_are(kind: type, rng: np.random.Generator) -> None:
    stored = rng.standard_normal((2, 3, 5)).astype(kind)
    dense = reference.dequantize(ProjectionSpec("f16", 3, 5), stored)
    assert dense.dtype == np.float64
    np.testing.assert_array_equal(dense, stored)


@given(hnp.arrays(np.int64, st.integers(1, 33), elements=st.integers(-8, 7)))
def test_nibbles_come_back(values: np.ndarray) -> None:
    np.testing.assert_array_equal(unpack_nibbles(pack(values), True, values.size), values)
    np.testing.assert_array_equal(unpack_nibbles(pack(values), False, values.size), values % 16)


ids_of_few = hnp.arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.integers(-4, 7))


@settings(max_examples=300, deadline=None)
@given(ids_of_few, st.integers(1, 6), st.integers(1, 5))
def test_plan_equals_a_plain_loop(ids: np.ndarray, experts: int, tile_m: int) -> None:
    top_k = ids.shape[1]
    tokens = 0
    for t, row in enumerate(ids):
        for value in row:
            if value != -2:
                tokens = t + 1
    row_of_pair = [-1 if value in (-1, -2) else -3 for value in ids[:tokens].reshape(-1)]
    pair_of_row: list[int] = []
    row_offset, tile_offset = [0], [0]
    for expert in range(experts):
        for pair in range(tokens * top_k):
            if ids[pair // top_k, pair % top_k] == expert:
                row_of_pair[pair] = len(pair_of_row)
                pair_of_row.append(pair)
        row_offset.append(len(pair_of_row))
        tile_offset.append(tile_offset[-1] + math.ceil((row_offset[-1] - row_offset[-2]) / tile_m))

    layout = PlanLayout(experts, top_k, len(ids))
    flat = reference.plan(ids, experts, tile_m)
    view = layout.view(flat)
    assert flat.dtype == np.int32
    assert flat.shape == (layout.size,)
    assert (view.tokens, view.live_rows, view.tiles) == (tokens, len(pair_of_row), tile_offset[-1])
    assert view.row_offset.tolist() == row_offset
    assert view.tile_offset.tolist() == tile_offset
    assert view.pair_of_row.tolist() == pair_of_row
    assert view.row_of_pair.tolist() == row_of_pair


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.int32, st.tuples(st.integers(0, 9), st.integers(1, 5)), elements=st.integers(-2, 3)), st.data())
def test_moe_equals_one_token_at_a_time(ids: np.ndarray, data: st.DataObject) -> None:
    """Each token by itself, sum by sum; an expert may come twice."""
    experts, hidden, intermediate = 4, 3, 2
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x, weights = rng.standard_normal((len(ids), hidden)), rng.random(ids.shape)
    gate, up = rng.standard_normal((2, experts, intermediate, hidden))
    down = rng.standard_normal((experts, hidden, intermediate))
    expected = np.zeros((len(ids), hidden))
    for t, row in enumerate(ids):
        for slot, expert in enumerate(row):
            if expert < 0:
                continue
            for i in range(intermediate):
                g = sum(gate[expert, i, j] * x[t, j] for j in range(hidden))
                u = sum(up[expert, i, j] * x[t, j] for j in range(hidden))
                h = g / (1 + math.exp(-g)) * u
                for j in range(hidden):
                    expected[t, j] += weights[t, slot] * down[expert, j, i] * h
    found = reference.moe(x, ids, weights, gate, up, down)
    # Sums of up to 5 * 2 terms in another order; terms may cancel.
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_moe_reads_nothing_of_padded_tokens() -> None:
    x = np.array([[np.nan, np.nan], [1.0, 2.0]])
    weights = np.array([[np.nan], [1.0]])
    y = reference.moe(x, np.array([[-1], [0]]), weights, *np.ones((2, 1, 3, 2)), np.ones((1, 2, 3)))
    assert (y[0] == 0).all()
    assert np.isfinite(y[1]).all()


def test_swiglu_has_its_limits() -> None:
    """Far left 0 (without a warning), far right the product, 0 at 0."""
    gate = np.array([-2000.0, -1.0, 0.0, 1.0, 2000.0])
    found = reference.swiglu(gate, np.full(5, 3.0))
    sigmoid = 1 / (1 + math.e)
    np.testing.assert_allclose(found, [0, -3 * sigmoid, 0, 3 * (1 - sigmoid), 6000], rtol=1e-14)


@pytest.mark.parametrize(("wrong", "experts"), [(4, 4), (-3, 4), (2**31 - 1, 1)])
def test_ids_out_of_range_are_refused_by_place(wrong: int, experts: int) -> None:
    ids = np.array([[0, -1], [-2, wrong], [wrong, 0]])
    with pytest.raises(InvalidInputError) as caught:
        reference.check_ids(ids, experts)
    last = experts - 1
    assert str(caught.value) == (
        f"top-k id {wrong} of token 1, slot 1 is out of range: it must be -1 (padding) or 0 to {last}."
    )
    with pytest.raises(InvalidInputError):
        reference.moe(np.zeros((3, 1)), ids, np.zeros((3, 2)), *np.zeros((3, experts, 1, 1)))


@pytest.mark.parametrize("kind", ["relu2", "swiglu ", "", None])
def test_an_activation_that_is_not_known_is_refused(kind: Any) -> None:
    """By the oracle and by the bounds of its tests: none of them stands for all others."""
    one, wrong = np.ones((1, 1)), Activation(kind)
    with pytest.raises(InvalidInputError, match=r"activation is .*, it must be 'swiglu', 'geglu_tanh', "):
        reference.activate(wrong, one, one)
    with pytest.raises(InvalidInputError, match="activation is"):
        bounds.activated(wrong, (one, one, one), (one, one, one))
    with pytest.raises(InvalidInputError, match="no bound written down"):
        bounds._evaluated(wrong, one, one)
    ids, weights = np.zeros((1, 1), np.int32), np.ones((1, 1, 1))
    with pytest.raises(InvalidInputError, match="activation is"):
        reference.moe(one, ids, one, weights, weights, weights, activation=wrong)


@pytest.mark.parametrize("layout", ["separate", "quarters", None])
def test_a_layout_that_does_not_hold_both_is_refused(layout: Any) -> None:
    with pytest.raises(InvalidInputError, match="layout of gate and up in one is"):
        reference.split_gate_up(np.ones((1, 2, 3)), layout)


@pytest.mark.parametrize(
    ("precision", "group", "scale", "zero", "sentence"),
    [
        ("u2", 4, True, False, "precision of weights is 'u2', it must be"),
        ("bf16", 0, False, False, "precision of weights is 'bf16'"),
        ("u8", 0, False, False, "u8 weights in groups of 0 with no scale"),
        ("u8", 4, False, False, "u8 weights in groups of 4 with no scale"),
        ("f16", 4, True, False, "f16 weights in groups of 4 with a scale"),
        ("f32", 0, False, True, "f32 weights in groups of 0 with no scale and a zero point"),
        ("f4e2m1", 4, True, True, "f4e2m1 weights have a sign of their own"),
    ],
)
def test_weights_that_make_no_sense_are_refused(
    precision: Any, group: int, scale: bool, zero: bool, sentence: str
) -> None:
    """8 bits do not stand for every format that is not known, nor values for weights that have scales."""
    one = np.ones(1, np.uint8)
    spec = ProjectionSpec(precision, 1, 4, group, zero)
    with pytest.raises(InvalidInputError, match=sentence):
        reference.dequantize(spec, np.ones(4, np.uint8), one if scale else None, one if zero else None)


def test_other_weights_are_not_packed_as_if_they_had_4_bits() -> None:
    stored, scale = np.zeros((1, 2, 32), np.uint8), np.ones((1, 2, 1), np.float16)
    for call in (
        lambda: pack_weights(stored, "u8"),
        lambda: unpack_weights(stored.reshape(1, 1, 4, 16), "i8"),
        lambda: pack_projection(ProjectionSpec("u8", 2, 32, 32), stored, scale, None),
    ):
        with pytest.raises(InvalidInputError, match=r"precision of packed weights is '.8', it must be 'u4', 'i4' or"):
            call()
    wrong: Any = "quarters"
    with pytest.raises(InvalidInputError, match="layout is 'quarters'"):
        pack_projection(ProjectionSpec("u4", 2, 32, 32), stored[..., :16], scale, None, wrong)


def test_a_schedule_that_is_not_known_is_no_pool() -> None:
    """And a fetch no stride."""
    wrong: Any = "gird"
    with pytest.raises(InvalidInputError, match="schedule is 'gird', it must be 'grid' or 'pool'"):
        KernelConfig(wrong, "ticket", 1)
    with pytest.raises(InvalidInputError, match="fetch is 'gird', it must be 'ticket' or 'stride'"):
        KernelConfig("pool", wrong, 1)


def test_random_weights_without_scales_are_real() -> None:
    with pytest.raises(InvalidInputError, match="precision of weights without scales is 'u8'"):
        random_stored(np.random.default_rng(0), 1, ProjectionSpec("u8", 2, 2))
