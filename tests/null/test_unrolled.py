"""Experts that stand one by one: what is read of them, and that it is what the CPU plugin computes."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as ops
from unrolled_values import EXACT, dense

from ov_moe.testing.block_weights import BlockWeights
from ov_moe.testing.graphs import Edit, find_node, route, swap
from ov_moe.testing.unrolled import Family, unrolled_model
from ov_moe.transformations.block import MoEBlock
from ov_moe.transformations.families import find_blocks

E, K, H, I = 5, 2, 64, 33  # noqa: E741
FAMILIES: tuple[Family, ...] = ("unrolled", "sorted")
# An odd number of experts and channels: 4-bit zero points of an expert end inside a byte.
FORMATS = [
    pytest.param({"precision": "f32"}, "f32", id="fp32"),
    pytest.param({"precision": "f16"}, "f16", id="fp16"),
    pytest.param({"precision": "u8"}, "u8 channel asym", id="int8"),
    pytest.param({"precision": "i8"}, "i8 channel sym", id="int8 symmetric"),
    pytest.param({"precision": "u4", "intermediate": 96}, "u4 g32 asym", id="int4"),
    pytest.param({"precision": "u4", "intermediate": 96, "symmetric": True}, "u4 g32 sym", id="int4 without zero"),
    pytest.param({"precision": "u4", "intermediate": 34, "group_size": 0}, "u4 channel asym", id="int4 by channel"),
    pytest.param(
        {"precision": "u4", "hidden": 90, "intermediate": 42, "group_size": 6}, "u4 g6 asym", id="int4 by sixes"
    ),
    pytest.param({"precision": "i4", "intermediate": 96}, "i4 g32 sym", id="int4 symmetric"),
    pytest.param({"precision": "i4", "intermediate": 34, "group_size": 0}, "i4 channel sym", id="int4 by channel sym"),
    pytest.param({"precision": "f4e2m1", "intermediate": 96}, "f4e2m1 g32 sym", id="mxfp4"),
]


def build(family: Family, **options: Any) -> tuple[ov.Model, list[BlockWeights]]:
    sizes = {"experts": E, "top_k": K, "hidden": H, "intermediate": I, "precision": "f32"} | options
    return unrolled_model(family, rng=np.random.default_rng(21), **sizes)


def only_block(model: ov.Model) -> MoEBlock:
    blocks, skipped = find_blocks(model)
    assert skipped == []
    assert len(blocks) == 1
    return blocks[0]


def assert_stacked(block: MoEBlock, stored: BlockWeights) -> None:
    """The constants hold the weights bit for bit, in the shapes that ``ExpertWeights`` promises."""
    projections = [block.gate, block.down] if block.up is None else [block.gate, block.up, block.down]
    for weights, raw in zip(projections, stored.raw, strict=True):
        np.testing.assert_array_equal(dense(weights), raw.dense())
        spec, shape = weights.spec, list(weights.values.shape)
        assert shape in ([E, spec.n, spec.k], [E, spec.n, spec.groups, spec.group_size])
        for constant in (weights.scale, weights.zero_point):
            assert constant is None or list(constant.shape) == [*shape[:-1], 1]
        assert (weights.zero_point is not None) == spec.zero_point


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("options", "label"), FORMATS)
def test_each_weight_format_is_read(family: Family, options: dict[str, Any], label: str) -> None:
    model, stored = build(family, **options)
    block = only_block(model)
    width = options.get("intermediate", I)
    assert (block.experts, block.top_k, block.intermediate) == (E, K, width)
    assert block.hidden == options.get("hidden", H)
    assert {w.spec.label() for w in (block.gate, block.up, block.down) if w is not None} == {label}
    assert block.layout == ("halves" if family == "sorted" else "separate")
    assert (block.up is None) == (family == "sorted")
    assert block.activation == stored[0].form.activation
    assert (block.gate_bias, block.down_bias) == (None, None)
    assert_stacked(block, stored[0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("options", "label"), FORMATS)
def test_the_cpu_plugin_computes_what_the_oracle_says(family: Family, options: dict[str, Any], label: str) -> None:
    model, stored = build(family, shared_expert=True, **options)
    assert_computes(model, stored)


def assert_computes(model: ov.Model, stored: list[BlockWeights]) -> None:
    hidden = stored[0].gate.shape[2]
    x = np.random.default_rng(22).standard_normal((2, 5, hidden)).astype(np.float32)
    found = ov.Core().compile_model(model, "CPU", EXACT)([x])["y"].reshape(-1, hidden)
    expected = x.reshape(-1, hidden).astype(np.float64)
    for weights in stored:
        y = weights.oracle(expected, *route(expected, weights, K, "softmax"))
        if weights.shared is not None:
            y = y + expected @ weights.shared.T
        expected = expected + y if len(stored) > 1 else y
    assert 0.02 < np.abs(expected).mean() < 100
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_a_precision_for_each_projection() -> None:
    model, stored = build("unrolled", precision=("u8", "f16", "i4"), intermediate=96)
    block = only_block(model)
    labels = [w.spec.label() for w in (block.gate, block.up, block.down) if w is not None]
    assert labels == ["u8 channel asym", "f16", "i4 g32 sym"]
    assert_stacked(block, stored[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_cut_is_at_x_ids_and_weights(family: Family) -> None:
    model, _ = build(family, shared_expert=True)
    block = only_block(model)
    last = "scatter" if family == "sorted" else f"{E - 1}/scatter"
    assert block.name == f"blocks.0/{last}"
    assert block.output == find_node(model, f"blocks.0/{last}").output(0)
    assert block.x == find_node(model, "blocks.0/x").output(0)
    assert block.topk_ids == find_node(model, "blocks.0/topk").output(1)
    assert block.topk_weights == find_node(model, "blocks.0/norm").output(0)
    assert block.output_shape == find_node(model, "blocks.0/zeros").input_value(1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sizes", [(1, 1), (2, 2), (67, 9)], ids=str)
def test_the_number_of_experts_does_not_matter(family: Family, sizes: tuple[int, int]) -> None:
    model, stored = build(family, experts=sizes[0], top_k=sizes[1], intermediate=8, hidden=8)
    block = only_block(model)
    assert (block.experts, block.top_k) == sizes
    np.testing.assert_array_equal(dense(block.down), stored[0].down)


@pytest.mark.parametrize("family", FAMILIES)
def test_finding_several_blocks_changes_and_copies_nothing(family: Family) -> None:
    model, stored = build(family, blocks=3)
    assert_computes(model, stored)
    before = [[n.get_name(), *(i.get_node().get_name() for i in n.input_values())] for n in model.get_ordered_ops()]
    blocks, skipped = find_blocks(model)
    after = [[n.get_name(), *(i.get_node().get_name() for i in n.input_values())] for n in model.get_ordered_ops()]
    assert len(blocks) == 3
    assert skipped == []
    assert before == after
    for block, weights in zip(blocks, stored, strict=True):
        assert block.gate.experts == E
        assert not {"values", "scale", "zero_point"} & set(vars(block.gate))
        assert block.gate.values is block.gate.values
        assert_stacked(block, weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_stacked_weights_outlive_the_model(family: Family) -> None:
    model, _ = build(family, precision="u4", intermediate=96)
    block = only_block(model)
    weights = block.gate
    graph = ov.Model([ops.convert(weights.values, "f16").output(0)], [])
    expected = weights.values.data.copy()
    del model, block, weights
    gc.collect()
    garbage = [np.full(expected.size, 0xA5, np.uint8) for _ in range(200)]
    kept = next(n for n in graph.get_ops() if n.get_type_name() == "Constant")
    np.testing.assert_array_equal(kept.data, expected)
    assert len(garbage) == 200


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_fixed_shapes_needs_no_output_shape(family: Family) -> None:
    model, stored = build(family)
    model.reshape([2, 5, H])
    block = only_block(model)
    assert block.output_shape is None
    assert list(block.output.get_shape()) == [10, H]
    assert_stacked(block, stored[0])


def choose(role: str, expert: int) -> Edit:
    return swap(role, lambda i: ops.gather(i[0], np.int64(expert), i[2]))


def test_the_order_of_the_sum_does_not_matter() -> None:
    model, stored = build("unrolled", precision="u8")
    choose("1/choice", 3)(model)
    choose("3/choice", 1)(model)
    block = only_block(model)
    for weights, raw in zip((block.gate, block.up, block.down), stored[0].raw, strict=True):
        assert weights is not None
        np.testing.assert_array_equal(dense(weights), raw.dense()[[0, 3, 2, 1, 4]])


SAME_MEANING: dict[str, tuple[Family, Edit]] = {
    "factor times row": ("unrolled", swap("3/weighted", lambda i: ops.multiply(i[1], i[0]))),
    "up times gate": ("unrolled", swap("3/gated", lambda i: ops.multiply(i[1], i[0]))),
    "token * k + slot": ("unrolled", swap("3/place", lambda i: ops.add(i[1], i[0]))),
    "k is a constant": ("unrolled", swap("3/line", lambda i: ops.multiply(i[0], np.array([K], np.int32)))),
    "k times token": ("unrolled", swap("3/line", lambda i: ops.multiply(i[1], i[0]))),
    "no broadcast of the rows": (
        "unrolled",
        swap("3/scatter", lambda i: ops.scatter_elements_update(i[0], i[1], before(i[2]), i[3], reduction="sum")),
    ),
    "a fixed row shape": (
        "unrolled",
        swap("3/places", lambda i: ops.broadcast(i[0], np.array([1, H]), broadcast_spec="BIDIRECTIONAL")),
    ),
    "factor times row, sorted": ("sorted", swap("weighted", lambda i: ops.multiply(i[1], i[0]))),
    "up times gate, sorted": ("sorted", swap("gated", lambda i: ops.multiply(i[1], i[0]))),
    "count before the sum": ("sorted", swap("3/end", lambda i: ops.add(i[1], i[0]))),
    "both counts of the first sum": ("sorted", swap("1/end", lambda i: ops.add(i[1], i[0]))),
    "negative axes": ("sorted", swap("down", lambda i: ops.concat(i, -2))),
}


def before(output: ov.Output) -> ov.Output:
    """What the producer of ``output`` reads first."""
    return output.get_node().input_value(0)


@pytest.mark.parametrize("name", SAME_MEANING)
def test_another_form_with_the_same_meaning_is_read(name: str) -> None:
    family, edit = SAME_MEANING[name]
    model, stored = build(family)
    edit(model)
    assert_stacked(only_block(model), stored[0])
    assert_computes(model, stored)
