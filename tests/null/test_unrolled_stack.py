"""Stacking the matrices of experts: the bytes are theirs, they are copied once and only when asked for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from ov_moe.spec import Precision, ProjectionSpec
from ov_moe.testing.graphs import integer_constant, pack
from ov_moe.transformations.not_matched import NotMatched
from ov_moe.transformations.unrolled.stack import stack, stack_constants
from ov_moe.transformations.unrolled.weights import MatrixWeights

MIB = 1 << 20


def matrix(
    precision: Precision, shape: list[int], *, zero_point: bool = False, scale: type = np.float16
) -> MatrixWeights:
    n, group = shape[0], shape[-1]
    spec = ProjectionSpec(precision, n, math.prod(shape[1:]), group, zero_point)
    companion = [*shape[:-1], 1]
    return MatrixWeights(
        spec,
        integer_constant(np.ones(shape, np.int64), precision, shape),
        ov.op.Constant(np.ones(companion, scale)),
        integer_constant(np.ones(companion, np.int64), precision, companion) if zero_point else None,
    )


@pytest.mark.parametrize("shape", [[3, 5, 1], [1, 1], [4, 2], [7, 3, 2]], ids=str)
@pytest.mark.parametrize("precision", ["u4", "i4", "u8", "i8"])
def test_integers_of_any_count_stand_one_after_the_other(precision: Precision, shape: list[int]) -> None:
    low, high = (-8, 8) if precision == "i4" else (0, 16)
    values = np.random.default_rng(61).integers(low, high, [3, *shape])
    stacked = stack_constants([integer_constant(one, precision, shape) for one in values])
    assert list(stacked.shape) == [3, *shape]
    assert stacked.get_element_type().to_string() == precision
    found = stacked.data.reshape(-1)
    np.testing.assert_array_equal(found.view(np.uint8), pack(values) if "4" in precision else found.view(np.uint8))
    if "8" in precision:
        np.testing.assert_array_equal(found, values.reshape(-1))


def test_floats_stand_one_after_the_other() -> None:
    values = np.random.default_rng(62).standard_normal((3, 5, 7)).astype(np.float16)
    stacked = stack_constants([ov.op.Constant(one) for one in values])
    np.testing.assert_array_equal(stacked.data, values)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (matrix("i4", [6, 2, 4]), "holds expert 2 as i4 g4 sym [6, 2, 4] with f16 scales where expert 0 is u4 g4 asym"),
        (matrix("u4", [6, 4, 2], zero_point=True), "holds expert 2 as u4 g2 asym [6, 4, 2] with f16 scales"),
        (matrix("u4", [6, 2, 4]), "holds expert 2 as u4 g4 sym [6, 2, 4] with f16 scales"),
        (matrix("u4", [6, 2, 4], zero_point=True, scale=np.float32), "holds expert 2 as u4 g4 asym [6, 2, 4] with f32"),
    ],
)
def test_an_expert_stored_in_another_way_is_named(other: MatrixWeights, words: str) -> None:
    same = matrix("u4", [6, 2, 4], zero_point=True)
    with pytest.raises(NotMatched) as error:
        stack([same, same, other])
    assert words in str(error.value)


def anonymous_bytes() -> int:
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_memory_is_taken_once_and_on_first_access() -> None:
    values = np.full((2048, 4096), 5, np.uint8)
    part = MatrixWeights(ProjectionSpec("u8", 2048, 4096, 4096), ov.op.Constant(values), None, None)
    before = anonymous_bytes()
    weights = stack([part] * 8)
    assert weights.experts == 8
    assert weights.spec.n == 2048
    assert anonymous_bytes() - before < MIB
    assert list(weights.values.shape) == [8, 2048, 4096]
    assert 0.9 < (anonymous_bytes() - before) / (64 * MIB) < 1.1
    assert weights.values.data[7, -1, -1] == 5
    assert 0.9 < (anonymous_bytes() - before) / (64 * MIB) < 1.1
