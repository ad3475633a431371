"""What is almost a block of GPT-OSS's or AFMoE's form is left, for the right reason."""

from __future__ import annotations

import pytest
from openvino import opset15 as ops

from ov_moe.testing.graphs import Edit, Form, find_node, swap
from ov_moe.testing.misses_fused import (
    AFMOE,
    BATCHED,
    FAR,
    FUSED,
    GPT_OSS,
    HALVED,
    HALVES,
    I,
    form_model,
    other_factor_axes,
    part,
)
from ov_moe.transformations.families import find_blocks


def skipped(form: Form, edit: Edit) -> list[tuple[str, str]]:
    model = form_model(form)
    edit(model)
    blocks, left = find_blocks(model)
    assert blocks == []
    return [(region.name, region.reason) for region in left]


@pytest.mark.parametrize("reason", FUSED)
def test_a_near_miss_of_gpt_oss_is_skipped_with_its_reason(reason: str) -> None:
    assert skipped(GPT_OSS, FUSED[reason]) == [("blocks.0/sum", reason)]


@pytest.mark.parametrize("reason", HALVED)
def test_a_near_miss_in_halves_is_skipped_with_its_reason(reason: str) -> None:
    assert skipped(HALVES, HALVED[reason]) == [("blocks.0/sum", reason)]


@pytest.mark.parametrize("reason", BATCHED)
def test_a_near_miss_of_afmoe_is_skipped_with_its_reason(reason: str) -> None:
    assert skipped(AFMOE, BATCHED[reason]) == [("blocks.0/sum", reason)]


SAME_MEANING: dict[str, tuple[Form, Edit]] = {
    "bias before the product": (GPT_OSS, swap("gate_up_add", lambda i: ops.add(i[1], i[0]))),
    "gate times up": (GPT_OSS, swap("gated", lambda i: ops.multiply(i[1], i[0]))),
    "limit before gate": (GPT_OSS, swap("gate_clamp", lambda i: ops.minimum(i[1], i[0]))),
    "a clamp from above only": (GPT_OSS, swap("gate_clamp", lambda i: ops.clamp(i[0], -3.5e38, 7.0))),
    "one before up": (GPT_OSS, swap("up_offset", lambda i: ops.add(i[1], i[0]))),
    "stops at the end": (GPT_OSS, part("up_part", 1, 2 * I, 2)),
    "negative axis and bounds": (GPT_OSS, part("gate_part", -2 * I, FAR, 2, -1)),
    "routing by one reshape": (GPT_OSS, other_factor_axes(0, 1)),
    "no bias after down": (GPT_OSS, swap("view_1", lambda i: ops.reshape(i[0].get_node().input_value(0), i[1], False))),
}


@pytest.mark.parametrize("name", SAME_MEANING)
def test_another_form_with_the_same_meaning_is_read(name: str) -> None:
    form, edit = SAME_MEANING[name]
    model = form_model(form)
    edit(model)
    blocks, left = find_blocks(model)
    assert left == []
    assert [b.name for b in blocks] == ["blocks.0/sum"]
    assert (blocks[0].layout, blocks[0].activation.limit, blocks[0].activation.up_offset) == ("interleaved", 7.0, 1.0)
    assert (blocks[0].down_bias is None) == (name == "no bias after down")


def test_zeros_as_wide_as_the_scores_are_read() -> None:
    """Exports of transformers 4.57 scatter into zeros_like(scores)."""
    model = form_model(AFMOE)
    scores = find_node(model, "blocks.0/topk").input_value(0)
    swap("zeros", lambda i: ops.broadcast(i[0], ops.shape_of(scores)))(model)
    blocks, left = find_blocks(model)
    assert left == []
    assert len(blocks) == 1
