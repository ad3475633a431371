"""Finding MoE blocks: each weight format is read; what is almost a block is left, for the right reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
import pytest
from graphs import Edit, find_node, insert_after, moe_block_model, read_twice, swap
from openvino import opset15 as ops

from ov_moe.spec import Activation
from ov_moe.transformations.block import MoEBlock
from ov_moe.transformations.families import find_blocks

E, K, H, I = 8, 2, 128, 64  # noqa: E741


def build(**options: Any) -> ov.Model:
    sizes = {"experts": E, "top_k": K, "hidden": H, "intermediate": I} | options
    return moe_block_model(rng=np.random.default_rng(7), **sizes)[0]


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
    block = only_block(build(**options))
    assert labels(block) == expected
    hidden, intermediate = options.get("hidden", H), options.get("intermediate", I)
    assert (block.experts, block.top_k, block.hidden, block.intermediate) == (E, K, hidden, intermediate)
    sizes = [(w.spec.n, w.spec.k) for w in (block.gate, block.up, block.down)]
    assert sizes == [(intermediate, hidden), (intermediate, hidden), (hidden, intermediate)]
    names = [w.values.get_friendly_name() for w in (block.gate, block.up, block.down)]
    assert names == ["blocks.0/gate_w", "blocks.0/up_w", "blocks.0/down_w"]


def test_the_cut_is_at_x_ids_and_weights() -> None:
    model = build()
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
    block = only_block(build(**options))
    assert (block.experts, block.top_k) == (options.get("experts", E), options.get("top_k", K))


def wiring(model: ov.Model) -> list[list[str]]:
    return [[n.get_name(), *(i.get_node().get_name() for i in n.input_values())] for n in model.get_ordered_ops()]


def test_finding_several_blocks_changes_nothing() -> None:
    model = build(blocks=3)
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
    model = build()
    SAME_MEANING[name](model)
    block = only_block(model)
    assert block.x == find_node(model, "blocks.0/tile").input_value(0)
    assert block.topk_weights == find_node(model, "blocks.0/norm").output(0)


def other_slice(**changes: list[int]) -> Edit:
    """The slice of the top-k weights with some inputs changed."""
    names = ("data", "start", "stop", "step", "axes")
    others = {name: np.array(value, np.int32) for name, value in changes.items()}
    return swap("slice", lambda i: ops.slice(**(dict(zip(names, i, strict=True)) | others)))


def other_matmul(role: str, shape: Sequence[int], transpose_b: bool = True) -> Edit:
    """A projection with f32 weights of another shape."""
    return swap(role, lambda i: ops.matmul(i[0], ones(shape, np.float32), False, transpose_b))


def ones(shape: Sequence[int], kind: type) -> ov.Node:
    return ops.constant(np.ones(shape, kind), name="others")


NEAR_MISSES: dict[str, Edit] = {
    "Tile 'blocks.0/tile' has repeats [16, 1] instead of [8, 1]": swap(
        "tile", lambda i: ops.tile(i[0], np.array([2 * E, 1]))
    ),
    "ReduceSum 'blocks.0/sum' has axes [1] instead of [0]": swap("sum", lambda i: ops.reduce_sum(i[0], np.array([1]))),
    "ReduceSum 'blocks.0/sum' has keep_dims = true": swap(
        "sum", lambda i: ops.reduce_sum(i[0], np.array([0]), keep_dims=True)
    ),
    "TopK 'blocks.0/topk' leads to experts whose outputs no ReduceSum adds up": swap(
        "sum", lambda i: ops.reduce_mean(i[0], np.array([0]))
    ),
    "MatMul 'blocks.0/up' has transpose_b = false": other_matmul("up", [E, H, I], transpose_b=False),
    "MatMul 'blocks.0/gate' is also read by Result 'second reader', outside the block": read_twice("gate"),
    "Transpose 'blocks.0/transpose' is also read by Result 'second reader', outside the block": read_twice("transpose"),
    "ScatterElementsUpdate 'blocks.0/scatter' has an axis [0] instead of [1]": swap(
        "scatter", lambda i: ops.scatter_elements_update(*i[:3], np.int64(0))
    ),
    "ScatterElementsUpdate 'blocks.0/scatter' has the reduction sum instead of none": swap(
        "scatter", lambda i: ops.scatter_elements_update(*i, reduction="sum")
    ),
    "Swish 'blocks.0/swish' has a beta that is not one constant": swap(
        "swish", lambda i: ops.swish(i[0], ops.reduce_max(i[0], np.array([0, 1, 2])))
    ),
    "Elu 'blocks.0/swish' stands where the activation of the gate should be one of Gelu, Relu, Swish": swap(
        "swish", lambda i: ops.elu(i[0], 1.0)
    ),
    "Broadcast 'blocks.0/zeros' is not zero where no expert is chosen": swap(
        "zeros", lambda i: ops.broadcast(np.float32(0.5), i[1])
    ),
    "Broadcast 'blocks.0/zeros' has a number of rows that cannot be traced to the expert ids": swap(
        "zeros", lambda i: ops.broadcast(np.float32(0), ops.add(i[1], np.array([1, 0])))
    ),
    "Constant 'others' holds [E, N, K] = [1, 64, 128] where the block needs [8, 64, 128]": other_matmul(
        "gate", [1, I, H]
    ),
    "Constant 'others' holds [E, N, K] = [8, 1, 128] where the block needs [8, 64, 128]": other_matmul("up", [E, 1, H]),
    "Slice 'blocks.0/slice' has a start [1, 0] instead of [0, 0]": other_slice(start=[1, 0]),
    "Slice 'blocks.0/slice' has a step [2, 1] instead of [1, 1]": other_slice(step=[2, 1]),
    "Slice 'blocks.0/slice' does not stop at the shape of the expert ids": other_slice(stop=[1, K]),
    "Slice 'blocks.0/slice' has a list of axes [1, 0] instead of [0, 1]": other_slice(axes=[1, 0]),
    "Multiply 'extra' stands where the down projection should be a MatMul": insert_after(
        "down", lambda o: ops.multiply(o, np.float32(2))
    ),
    "Multiply 'extra' stands where the swap of tokens and experts should be a Transpose": insert_after(
        "transpose", lambda o: ops.multiply(o, np.float32(2))
    ),
    "Add 'extra' stands where the gate projection should be a MatMul": insert_after(
        "gate", lambda o: ops.add(o, np.ones((E, 1, I), np.float32))
    ),
    "Multiply 'blocks.0/gated' multiplies a gate and an up projection of different inputs": swap(
        "up", lambda i: ops.matmul(ops.relu(i[0]), i[1], False, True)
    ),
    "Transpose 'blocks.0/transpose' has an order [0, 1] instead of [1, 0]": swap(
        "transpose", lambda i: ops.transpose(i[0], np.array([0, 1]))
    ),
    "Constant 'others' is a u8 zero point of u4 weights": swap(
        "up_w/zero_point/subtract", lambda i: ops.subtract(i[0], ops.convert(ones([E, I, 4, 1], np.uint8), "f16"))
    ),
    "Constant 'others' has shape [8, 1, 1, 1] beside values of shape [8, 64, 4, 32]": swap(
        "up_w/fq_weights_1", lambda i: ops.multiply(i[0], ones([E, 1, 1, 1], np.float16))
    ),
    "Relu 'computed' stands where the scale should be an f16 or f32 Constant": swap(
        "up_w/fq_weights_1", lambda i: ops.multiply(i[0], ops.relu(i[1], name="computed"))
    ),
    "Transpose 'turned' stands where the scaling of the weights should be a Multiply": swap(
        "up",
        lambda i: ops.matmul(
            i[0], ops.transpose(ones([E, H, I], np.float32), np.array([0, 2, 1]), name="turned"), False, True
        ),
    ),
    "VariadicSplit 'halved' stands where the scaling of the weights should be a Multiply": swap(
        "up",
        lambda i: ops.matmul(
            i[0],
            ops.variadic_split(ones([E, 2 * I, H], np.float32), np.int64(1), np.array([I, I]), name="halved").output(0),
            False,
            True,
        ),
    ),
    "Constant 'others' holds u8 weights without a scale": swap(
        "up", lambda i: ops.matmul(i[0], ops.convert(ones([E, I, H], np.uint8), "f32"), False, True)
    ),
}


@pytest.mark.parametrize("reason", NEAR_MISSES)
def test_a_near_miss_is_skipped_with_its_reason(reason: str) -> None:
    model = build()
    NEAR_MISSES[reason](model)
    blocks, skipped = find_blocks(model)
    assert blocks == []
    assert [s.reason for s in skipped] == [reason]
    assert skipped[0].name == ("blocks.0/topk" if reason.startswith("TopK") else "blocks.0/sum")


@pytest.mark.parametrize(
    ("options", "size"), [({"hidden": 96, "group_size": 3}, 3), ({"intermediate": 33, "group_size": 0}, 33)]
)
def test_four_bit_rows_that_start_inside_a_byte_are_skipped(options: dict[str, Any], size: int) -> None:
    blocks, skipped = find_blocks(build(**({"intermediate": 48} | options)))
    assert blocks == []
    reason = f"Constant 'blocks.0/down_w' has 4-bit rows or groups of {size} elements, not whole bytes"
    assert [s.reason for s in skipped] == [reason]


def test_one_bad_block_does_not_hide_the_others() -> None:
    model = build(blocks=2)
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
