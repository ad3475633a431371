"""What is almost a block of experts that stand one by one is left alone, for the right reason."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as ops

from ov_moe.testing.graphs import Edit, swap
from ov_moe.testing.misses_unrolled import SORTED, UNROLLED, H, I, K, family_model
from ov_moe.testing.unrolled import Family, unrolled_model
from ov_moe.transformations.families import find_blocks


@pytest.mark.parametrize("reason", UNROLLED)
def test_a_near_miss_of_unrolled_experts_is_skipped_with_its_reason(reason: str) -> None:
    assert_skipped("unrolled", UNROLLED[reason], reason, "blocks.0/5/scatter")


@pytest.mark.parametrize("reason", SORTED)
def test_a_near_miss_of_sorted_experts_is_skipped_with_its_reason(reason: str) -> None:
    assert_skipped("sorted", SORTED[reason], reason, "blocks.0/scatter")


def assert_skipped(family: Family, edit: Edit, reason: str, name: str) -> None:
    model = family_model(family)
    edit(model)
    blocks, skipped = find_blocks(model)
    assert blocks == []
    assert [(s.name, s.reason) for s in skipped] == [(name, reason)]


@pytest.mark.parametrize("family", ["unrolled", "sorted"])
def test_one_bad_block_does_not_hide_the_others(family: Family) -> None:
    sizes = {"experts": 3, "top_k": K, "hidden": H, "intermediate": I}
    model, _ = unrolled_model(family, rng=np.random.default_rng(32), blocks=2, **sizes)
    swap("zeros", lambda i: ops.broadcast(np.float32(1), i[1]))(model)
    blocks, skipped = find_blocks(model)
    assert [b.name.split("/")[0] for b in blocks] == ["blocks.1"]
    assert [s.name.split("/")[0] for s in skipped] == ["blocks.0"]


def test_rows_scattered_without_a_router_are_no_region() -> None:
    x = ops.parameter(ov.PartialShape([-1, H]), ov.Type.f32)
    places = ops.parameter(ov.PartialShape([-1, H]), ov.Type.i32)
    rows = ops.matmul(x, np.ones((H, H), np.float32), False, True)
    total = ops.scatter_elements_update(x, places, rows, np.int64(0), reduction="sum")
    assert find_blocks(ov.Model([total.output(0)], [x, places])) == ([], [])
