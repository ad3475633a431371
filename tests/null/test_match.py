"""Finding MoE blocks: each weight format is read; what is almost a block is left, for the right reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as ops

from ov_moe.spec import Activation
from ov_moe.testing.graphs import Edit, find_node, swap
from ov_moe.testing.misses_tiled import NEAR_MISSES, E, H, I, K, qwen3_model
from ov_moe.transformations.block import MoEBlock
from ov_moe.transformations.families import find_blocks


def labels(block: MoEBlock) -> list[str]:
    assert block.up is not None
    return [weights.spec.label() for weights in (block.gate, block.up, block.down)]


def only_block(model: ov.Model) -> MoEBlock:
    blocks, skipped = find_blocks(model)
    assert skipped == []
    assert len(blocks) == 1
    return blocks[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"precision": "f32"}, ["f32"] * 3, id="fp32 export: a bare Constant"),
        pytest.param({"precision": "f16"}, ["f16"] * 3, id="fp16 export: Constant and Convert"),
        pytest.param({"precision": "u8"}, ["u8 channel asym"] * 3, id="int8 export"),
        pytest.param({"precision": "i8"}, ["i8 channel sym"] * 3, id="int8 symmetric export"),
        pytest.param({"precision": "u4"}, ["u4 g32 asym"] * 3, id="int4 export"),
        pytest.param({"precision": "u4", "group_size": 64}, ["u4 g64 asym"] * 2 + ["u4 channel asym"], id="g = K"),
        pytest.param({"precision": "i4"}, ["i4 g32 sym"] * 3, id="int4 symmetric export"),
        pytest.param({"precision": "i4", "group_size": 0}, ["i4 channel sym"] * 3, id="int4 by channel"),
        pytest.param({"precision": "u4", "group_size": 0}, ["u4 channel asym"] * 3, id="odd number of zero points"),
        pytest.param({"precision": "u8", "group_size_8bit": 32}, ["u8 g32 asym"] * 3, id="grouped int8"),
        pytest.param({"precision": "i8", "group_size_8bit": 16}, ["i8 g16 sym"] * 3, id="grouped int8 symmetric"),
        pytest.param({"precision": "u4", "symmetric": True}, ["u4 g32 sym"] * 3, id="unsigned without zero point"),
        pytest.param({"precision": "u4", "group_size": 16}, ["u4 g16 asym"] * 3, id="the smallest group"),
        pytest.param(
            {"hidden": 256, "intermediate": 512, "group_size": 256},
            ["u4 channel asym"] * 2 + ["u4 g256 asym"],
            id="the largest group",
        ),
        pytest.param({"precision": "f4e2m1"}, ["f4e2m1 g32 sym"] * 3, id="mxfp4"),
        pytest.param(
            {"precision": ("f4e2m1", "u4", "f16")}, ["f4e2m1 g32 sym", "u4 g32 asym", "f16"], id="mxfp4 mixed"
        ),
        pytest.param({"precision": ("u8", "f16", "i4")}, ["u8 channel asym", "f16", "i4 g32 sym"], id="mixed"),
    ],
)
def test_each_weight_format_is_read(options: dict[str, Any], expected: list[str]) -> None:
    block = only_block(qwen3_model(**options))
    assert labels(block) == expected
    hidden, intermediate = options.get("hidden", H), options.get("intermediate", I)
    assert (block.experts, block.top_k, block.hidden, block.intermediate) == (E, K, hidden, intermediate)
    sizes = [(w.spec.n, w.spec.k) for w in (block.gate, block.up, block.down)]
    assert sizes == [(intermediate, hidden), (intermediate, hidden), (hidden, intermediate)]
    names = [w.values.get_friendly_name() for w in (block.gate, block.up, block.down)]
    assert names == ["blocks.0/gate_w", "blocks.0/up_w", "blocks.0/down_w"]


def test_the_cut_is_at_x_ids_and_weights() -> None:
    model = qwen3_model()
    block = only_block(model)
    assert block.name == "blocks.0/sum"
    assert block.output == find_node(model, "blocks.0/sum").output(0)
    assert block.x == find_node(model, "blocks.0/tile").input_value(0)
    assert block.topk_ids == find_node(model, "blocks.0/ids").output(0)
    assert block.topk_weights == find_node(model, "blocks.0/norm").output(0)
    assert (block.activation, block.layout) == (Activation(), "separate")
    assert (block.gate_bias, block.down_bias, block.output_shape) == (None, None, None)


@pytest.mark.parametrize(
    "options",
    [
        {"router": "softmax-nonorm"},
        {"router": "sigmoid"},
        {"ids_input": True},
        {"topk_as_inputs": True},
        {"experts": 1, "top_k": 1},
        {"experts": 129, "top_k": 9, "hidden": 32, "intermediate": 32},
    ],
    ids=str,
)
def test_the_router_and_the_number_of_experts_do_not_matter(options: dict[str, Any]) -> None:
    block = only_block(qwen3_model(**options))
    assert (block.experts, block.top_k) == (options.get("experts", E), options.get("top_k", K))


def wiring(model: ov.Model) -> list[list[str]]:
    return [[n.get_name(), *(i.get_node().get_name() for i in n.input_values())] for n in model.get_ordered_ops()]


def test_finding_several_blocks_changes_nothing() -> None:
    model = qwen3_model(blocks=3)
    before = wiring(model)
    blocks, skipped = find_blocks(model)
    assert [b.name for b in blocks] == ["blocks.0/sum", "blocks.1/sum", "blocks.2/sum"]
    assert skipped == []
    assert wiring(model) == before


def source(output: ov.Output) -> ov.Output:
    """What the producer of ``output`` reads first."""
    return output.get_node().input_value(0)


SAME_MEANING: dict[str, Edit] = {
    "up times gate": swap("gated", lambda i: ops.multiply(i[1], i[0])),
    "routing times results": swap("weighted", lambda i: ops.multiply(i[1], i[0])),
    "scale times weights": swap("up_w/fq_weights_1", lambda i: ops.multiply(i[1], i[0])),
    "beta 1": swap("swish", lambda i: ops.swish(i[0], np.float32(1))),
    "no slice": swap("scatter", lambda i: ops.scatter_elements_update(*i[:2], source(i[2]), i[3])),
    "axis -1": swap("scatter", lambda i: ops.scatter_elements_update(*i[:3], np.int64(-1))),
    "negative reduce axis": swap("sum", lambda i: ops.reduce_sum(i[0], np.array([-3]))),
    "routing by one reshape": swap("unsqueeze", lambda i: ops.reshape(i[0], [E, -1, 1], special_zero=False)),
    "no reshape after down": swap("weighted", lambda i: ops.multiply(source(i[0]), i[1])),
}


@pytest.mark.parametrize("name", SAME_MEANING)
def test_another_form_with_the_same_meaning_is_read(name: str) -> None:
    model = qwen3_model()
    SAME_MEANING[name](model)
    block = only_block(model)
    assert block.x == find_node(model, "blocks.0/tile").input_value(0)
    assert block.topk_weights == find_node(model, "blocks.0/norm").output(0)


@pytest.mark.parametrize("reason", NEAR_MISSES)
def test_a_near_miss_is_skipped_with_its_reason(reason: str) -> None:
    model = qwen3_model()
    NEAR_MISSES[reason](model)
    blocks, skipped = find_blocks(model)
    assert blocks == []
    assert [s.reason for s in skipped] == [reason]
    assert skipped[0].name == ("blocks.0/topk" if reason.startswith("TopK") else "blocks.0/sum")


@pytest.mark.parametrize(
    ("options", "size"), [({"hidden": 96, "group_size": 3}, 3), ({"intermediate": 33, "group_size": 0}, 33)]
)
def test_four_bit_rows_that_start_inside_a_byte_are_skipped(options: dict[str, Any], size: int) -> None:
    blocks, skipped = find_blocks(qwen3_model(**({"intermediate": 48} | options)))
    assert blocks == []
    reason = f"Constant 'blocks.0/down_w' has 4-bit rows or groups of {size} elements, not whole bytes"
    assert [s.reason for s in skipped] == [reason]


def test_one_bad_block_does_not_hide_the_others() -> None:
    model = qwen3_model(blocks=2)
    swap("swish", lambda i: ops.elu(i[0], 1.0))(model)
    blocks, skipped = find_blocks(model)
    assert [b.name for b in blocks] == ["blocks.1/sum"]
    assert [s.name for s in skipped] == ["blocks.0/sum"]


def test_a_model_without_experts_gives_nothing() -> None:
    x = ops.parameter(ov.PartialShape([-1, H]), ov.Type.f32)
    dense = ops.matmul(x, np.ones((H, H), np.float32), False, True)
    top = ops.topk(dense, np.int64(2), -1, "max", "value")
    batched = ops.matmul(ops.unsqueeze(dense, 0), np.ones((E, H, H), np.float32), False, True)
    model = ov.Model([top.output(0), ops.reduce_sum(batched, np.array([0])).output(0)], [x])
    assert find_blocks(model) == ([], [])
