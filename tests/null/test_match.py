"""Finding MoE blocks: every weight format is read, and what is almost a block is left alone for the right reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from graphs import integer_constant, moe_block_model
from openvino import opset15 as ops

from ov_moe.transformations.block import MoEBlock
from ov_moe.transformations.families import find_blocks

EXPORTS = Path(__file__).resolve().parents[3] / "shared" / "models"
E, K, H, I = 8, 2, 128, 64  # noqa: E741


def build(**options) -> ov.Model:
    sizes = {"experts": E, "top_k": K, "hidden": H, "intermediate": I} | options
    return moe_block_model(rng=np.random.default_rng(7), **sizes)[0]


def labels(block: MoEBlock) -> list[str]:
    return [weights.spec.label() for weights in (block.gate, block.up, block.down)]


def only_block(model: ov.Model) -> MoEBlock:
    blocks, skipped = find_blocks(model)
    assert skipped == []
    assert len(blocks) == 1
    return blocks[0]


def node(model: ov.Model, name: str) -> ov.Node:
    return next(n for n in model.get_ops() if n.get_friendly_name() == name)


def swap(model: ov.Model, name: str, make: Callable[[list[ov.Output]], ov.Node]) -> None:
    """Puts what ``make`` builds from the inputs of ``blocks.0/<name>`` in its place, under the same name."""
    old = node(model, f"blocks.0/{name}")
    readers = list(old.output(0).get_target_inputs())
    new = make(old.input_values())
    old.set_friendly_name("replaced")
    new.set_friendly_name(f"blocks.0/{name}")
    for reader in readers:
        reader.replace_source_output(new.output(0))
    model.validate_nodes_and_infer_types()


def insert_after(model: ov.Model, name: str, make: Callable[[ov.Node], ov.Node]) -> None:
    """Puts a node called ``extra`` between ``blocks.0/<name>`` and its readers."""
    old = node(model, f"blocks.0/{name}")
    readers = list(old.output(0).get_target_inputs())
    new = make(old)
    new.set_friendly_name("extra")
    for reader in readers:
        reader.replace_source_output(new.output(0))
    model.validate_nodes_and_infer_types()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"precision": "f32"}, ["f32"] * 3, id="fp32 export: a bare Constant"),
        pytest.param({"precision": "f16"}, ["f16"] * 3, id="fp16 export: Constant and Convert"),
        pytest.param({"precision": "u8"}, ["u8 channel asym"] * 3, id="int8 export"),
        pytest.param({"precision": "i8"}, ["i8 channel sym"] * 3, id="int8 symmetric export"),
        pytest.param({"precision": "u4"}, ["u4 g32 asym"] * 3, id="int4 export"),
        pytest.param(
            {"precision": "u4", "group_size": 64}, ["u4 g64 asym"] * 2 + ["u4 channel asym"], id="g = K"
        ),
        pytest.param({"precision": "i4"}, ["i4 g32 sym"] * 3, id="int4 symmetric export"),
        pytest.param({"precision": "i4", "group_size": 0}, ["i4 channel sym"] * 3, id="int4 by channel"),
        pytest.param(
            {"precision": "u4", "group_size": 0}, ["u4 channel asym"] * 3, id="odd number of zero points"
        ),
        pytest.param({"precision": "u8", "group_size_8bit": 32}, ["u8 g32 asym"] * 3, id="grouped int8"),
        pytest.param(
            {"precision": "i8", "group_size_8bit": 16}, ["i8 g16 sym"] * 3, id="grouped int8 symmetric"
        ),
        pytest.param(
            {"precision": "u4", "symmetric": True}, ["u4 g32 sym"] * 3, id="unsigned without zero point"
        ),
        pytest.param(
            {"precision": ("u8", "f16", "i4")},
            ["u8 channel asym", "f16", "i4 g32 sym"],
            id="mixed, as --ratio gives",
        ),
    ],
)
def test_each_weight_format_is_read(options, expected):
    block = only_block(build(**options))
    assert labels(block) == expected
    assert (block.experts, block.top_k, block.hidden, block.intermediate) == (E, K, H, I)
    assert [(w.spec.n, w.spec.k) for w in (block.gate, block.up, block.down)] == [(I, H), (I, H), (H, I)]
    assert [w.values.get_friendly_name() for w in (block.gate, block.up, block.down)] == [
        "blocks.0/gate_w",
        "blocks.0/up_w",
        "blocks.0/down_w",
    ]


def test_the_cut_is_at_x_ids_and_weights():
    model = build()
    block = only_block(model)
    assert block.name == "blocks.0/sum"
    assert block.output == node(model, "blocks.0/sum").output(0)
    assert block.x == node(model, "blocks.0/tile").input_value(0)
    assert block.topk_ids == node(model, "blocks.0/ids").output(0)
    assert block.topk_weights == node(model, "blocks.0/norm").output(0)
    assert block.activation == "swiglu"


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
def test_the_router_and_the_number_of_experts_do_not_matter(options):
    block = only_block(build(**options))
    assert (block.experts, block.top_k) == (options.get("experts", E), options.get("top_k", K))


def test_finding_several_blocks_changes_nothing():
    model = build(blocks=3)
    before = [
        (n.get_name(), [i.get_node().get_name() for i in n.input_values()]) for n in model.get_ordered_ops()
    ]
    blocks, skipped = find_blocks(model)
    assert [b.name for b in blocks] == ["blocks.0/sum", "blocks.1/sum", "blocks.2/sum"]
    assert skipped == []
    after = [
        (n.get_name(), [i.get_node().get_name() for i in n.input_values()]) for n in model.get_ordered_ops()
    ]
    assert before == after


SAME_MEANING: dict[str, Callable[[ov.Model], None]] = {
    "up times gate": lambda m: swap(m, "gated", lambda i: ops.multiply(i[1], i[0])),
    "routing times results": lambda m: swap(m, "weighted", lambda i: ops.multiply(i[1], i[0])),
    "scale times weights": lambda m: swap(m, "up_w/fq_weights_1", lambda i: ops.multiply(i[1], i[0])),
    "beta 1": lambda m: swap(m, "swish", lambda i: ops.swish(i[0], np.float32(1))),
    "no slice": lambda m: swap(
        m, "scatter", lambda i: ops.scatter_elements_update(*i[:2], _sliced(i[2]), i[3])
    ),
    "axis -1": lambda m: swap(m, "scatter", lambda i: ops.scatter_elements_update(*i[:3], np.int64(-1))),
    "negative reduce axis": lambda m: swap(m, "sum", lambda i: ops.reduce_sum(i[0], np.array([-3]))),
    "one reshape for the routing": lambda m: swap(
        m, "unsqueeze", lambda i: ops.reshape(i[0], [E, -1, 1], special_zero=False)
    ),
    "no reshape after down": lambda m: swap(m, "weighted", lambda i: ops.multiply(_sliced(i[0]), i[1])),
}


def _sliced(output: ov.Output) -> ov.Output:
    return output.get_node().input_value(0)


@pytest.mark.parametrize("name", SAME_MEANING)
def test_another_form_with_the_same_meaning_is_read(name):
    model = build()
    SAME_MEANING[name](model)
    block = only_block(model)
    assert block.x == node(model, "blocks.0/tile").input_value(0)
    assert block.topk_weights == node(model, "blocks.0/norm").output(0)


def slice_with(inputs: list[ov.Output], **changes) -> ov.Node:
    parts = dict(zip(("data", "start", "stop", "step", "axes"), inputs, strict=True)) | changes
    return ops.slice(**parts)


def scatter(inputs: list[ov.Output], **options) -> ov.Node:
    return ops.scatter_elements_update(*inputs[:3], options.pop("axis", inputs[3]), **options)


def constant_weights(shape: Sequence[int], kind: np.dtype | type = np.float32) -> ov.Node:
    return ops.constant(np.ones(shape, kind), name="other weights")


def feeds_two(model: ov.Model, name: str) -> None:
    result = ops.result(node(model, f"blocks.0/{name}"))
    result.set_friendly_name("second reader")
    model.add_results([result])


NEAR_MISSES: dict[str, tuple[Callable[[ov.Model], None], str]] = {
    "tile repeats": (
        lambda m: swap(m, "tile", lambda i: ops.tile(i[0], np.array([2 * E, 1]))),
        "Tile 'blocks.0/tile' has repeats [16, 1] instead of [8, 1]",
    ),
    "reduce axis": (
        lambda m: swap(m, "sum", lambda i: ops.reduce_sum(i[0], np.array([1]))),
        "ReduceSum 'blocks.0/sum' has axes [1] instead of [0]",
    ),
    "keep_dims": (
        lambda m: swap(m, "sum", lambda i: ops.reduce_sum(i[0], np.array([0]), keep_dims=True)),
        "ReduceSum 'blocks.0/sum' has keep_dims = true",
    ),
    "mean of the experts": (
        lambda m: swap(m, "sum", lambda i: ops.reduce_mean(i[0], np.array([0]))),
        "TopK 'blocks.0/topk' leads to experts whose outputs no ReduceSum adds up",
    ),
    "transpose_b": (
        lambda m: swap(m, "up", lambda i: ops.matmul(i[0], constant_weights([E, H, I]), False, False)),
        "MatMul 'blocks.0/up' has transpose_b = false",
    ),
    "second reader of a projection": (
        lambda m: feeds_two(m, "gate"),
        "MatMul 'blocks.0/gate' is also read by Result 'second reader', outside the block",
    ),
    "second reader of the dense routing": (
        lambda m: feeds_two(m, "scatter"),
        "ScatterElementsUpdate 'blocks.0/scatter' is also read by Result 'second reader', outside the block",
    ),
    "scatter axis": (
        lambda m: swap(m, "scatter", lambda i: scatter(i, axis=np.int64(0))),
        "ScatterElementsUpdate 'blocks.0/scatter' has an axis [0] instead of [1]",
    ),
    "scatter reduction": (
        lambda m: swap(m, "scatter", lambda i: scatter(i, reduction="sum")),
        "ScatterElementsUpdate 'blocks.0/scatter' has the reduction sum instead of none",
    ),
    "swish beta": (
        lambda m: swap(m, "swish", lambda i: ops.swish(i[0], np.float32(2))),
        "Swish 'blocks.0/swish' has a beta of 2.0 instead of 1",
    ),
    "another activation": (
        lambda m: swap(m, "swish", lambda i: ops.gelu(i[0], "erf")),
        "Gelu 'blocks.0/swish' stands where the activation of the gate should be a Swish",
    ),
    "routing is not zero elsewhere": (
        lambda m: swap(m, "zeros", lambda i: ops.broadcast(np.float32(0.5), i[1])),
        "Broadcast 'blocks.0/zeros' is not zero where no expert is chosen",
    ),
    "routing of other rows": (
        lambda m: swap(
            m, "zeros", lambda i: ops.broadcast(np.float32(0), ops.shape_of(ops.relu(_sliced_shape(m))))
        ),
        "Broadcast 'blocks.0/zeros' has a number of rows that cannot be traced to the expert ids",
    ),
    "one expert's gate for all": (
        lambda m: swap(m, "gate", lambda i: ops.matmul(i[0], constant_weights([1, I, H]), False, True)),
        "Constant 'other weights' holds weights of [E, N, K] = [1, 64, 128] where the block needs [8, 64, 128]",
    ),
    "up of one column": (
        lambda m: swap(m, "up", lambda i: ops.matmul(i[0], constant_weights([E, 1, H]), False, True)),
        "Constant 'other weights' holds weights of [E, N, K] = [8, 1, 128] where the block needs [8, 64, 128]",
    ),
    "slice skips a token": (
        lambda m: swap(m, "slice", lambda i: slice_with(i, start=np.array([1, 0], np.int32))),
        "Slice 'blocks.0/slice' has a start [1, 0] instead of [0, 0]",
    ),
    "slice steps": (
        lambda m: swap(m, "slice", lambda i: slice_with(i, step=np.array([2, 1], np.int32))),
        "Slice 'blocks.0/slice' has a step [2, 1] instead of [1, 1]",
    ),
    "slice stops early": (
        lambda m: swap(m, "slice", lambda i: slice_with(i, stop=np.array([1, K], np.int32))),
        "Slice 'blocks.0/slice' does not stop at the shape of the expert ids",
    ),
    "factor on the results": (
        lambda m: insert_after(m, "down", lambda n: ops.multiply(n, np.float32(2))),
        "Multiply 'extra' stands where the down projection should be a MatMul",
    ),
    "factor on the routing": (
        lambda m: insert_after(m, "transpose", lambda n: ops.multiply(n, np.float32(2))),
        "Multiply 'extra' stands where the exchange of tokens and experts in the routing should be a Transpose",
    ),
    "bias on the gate": (
        lambda m: insert_after(m, "gate", lambda n: ops.add(n, np.ones((E, 1, I), np.float32))),
        "Add 'extra' stands where the gate projection should be a MatMul",
    ),
    "gate and up of different inputs": (
        lambda m: swap(m, "up", lambda i: ops.matmul(ops.relu(i[0]), i[1], False, True)),
        "Multiply 'blocks.0/gated' multiplies a gate and an up projection of different inputs",
    ),
    "transpose order": (
        lambda m: swap(m, "transpose", lambda i: ops.transpose(i[0], np.array([0, 1]))),
        "Transpose 'blocks.0/transpose' has an order [0, 1] instead of [1, 0]",
    ),
    "zero points of another type": (
        lambda m: swap(m, "up_w/zero_point/subtract", lambda i: ops.subtract(i[0], _u8_zero_points())),
        "Constant 'other zero points' is a u8 zero point of u4 weights",
    ),
    "one scale for all channels": (
        lambda m: swap(m, "up_w/fq_weights_1", lambda i: ops.multiply(i[0], _scales([E, 1, 1, 1]))),
        "Constant 'other scales' has shape [8, 1, 1, 1] beside values of shape [8, 64, 4, 32]",
    ),
    "scale that is computed": (
        lambda m: swap(m, "up_w/fq_weights_1", lambda i: ops.multiply(i[0], _named_relu(i[1]))),
        "Relu 'computed' stands where the scale should be an f16 or f32 Constant",
    ),
    "integers without a scale": (
        lambda m: swap(m, "up", lambda i: ops.matmul(i[0], _unscaled(), False, True)),
        "Constant 'other weights' holds u8 weights without a scale",
    ),
}


def _sliced_shape(model: ov.Model) -> ov.Output:
    """Logits [T, E], which have as many rows as the ids but do not come from them."""
    return node(model, "blocks.0/topk").input_value(0)


def _u8_zero_points() -> ov.Node:
    constant = integer_constant(np.ones((E, I, 4, 1)), "u8", [E, I, 4, 1])
    constant.set_friendly_name("other zero points")
    return ops.convert(constant, "f16")


def _scales(shape: Sequence[int]) -> ov.Node:
    return ops.constant(np.ones(shape, np.float16), name="other scales")


def _named_relu(value: ov.Output) -> ov.Node:
    return ops.relu(value, name="computed")


def _unscaled() -> ov.Node:
    return ops.convert(constant_weights([E, I, H], np.uint8), "f32")


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_a_near_miss_is_skipped_with_its_reason(name):
    edit, reason = NEAR_MISSES[name]
    model = build()
    edit(model)
    blocks, skipped = find_blocks(model)
    assert blocks == []
    assert [s.reason for s in skipped] == [reason]
    assert skipped[0].name == ("blocks.0/topk" if reason.startswith("TopK") else "blocks.0/sum")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"hidden": 96, "group_size": 3},
            "Constant 'blocks.0/down_w' has 4-bit rows or groups of 3 elements, which do not fill whole bytes",
        ),
        (
            {"intermediate": 33, "group_size": 0},
            "Constant 'blocks.0/down_w' has 4-bit rows or groups of 33 elements, which do not fill whole bytes",
        ),
    ],
    ids=["odd group", "odd row"],
)
def test_four_bit_rows_that_start_inside_a_byte_are_skipped(options, reason):
    options = {"intermediate": 48} | options
    blocks, skipped = find_blocks(build(**options))
    assert blocks == []
    assert [s.reason for s in skipped] == [reason]


def test_one_bad_block_does_not_hide_the_others():
    model = build(blocks=2)
    swap(model, "swish", lambda i: ops.swish(i[0], np.float32(2)))
    blocks, skipped = find_blocks(model)
    assert [b.name for b in blocks] == ["blocks.1/sum"]
    assert [s.name for s in skipped] == ["blocks.0/sum"]


def test_a_model_without_experts_gives_nothing():
    x = ops.parameter(ov.PartialShape([-1, H]), ov.Type.f32)
    dense = ops.matmul(x, np.ones((H, H), np.float32), False, True)
    top = ops.topk(dense, np.int64(2), -1, "max", "value")
    batched = ops.matmul(ops.unsqueeze(dense, 0), np.ones((E, H, H), np.float32), False, True)
    model = ov.Model([top.output(0), ops.reduce_sum(batched, np.array([0])).output(0)], [x])
    assert find_blocks(model) == ([], [])


exports = pytest.mark.skipif(not EXPORTS.is_dir(), reason=f"the exported models are not at {EXPORTS}")
FOUR_BIT = ["u4 g32 asym"] * 3
EXPORTED = {
    "e8-fp32": ["f32"] * 3,
    "e8-fp16": ["f16"] * 3,
    "e8-int8": ["u8 channel asym"] * 3,
    "e8-int8sym": ["i8 channel sym"] * 3,
    "e8-int4": FOUR_BIT,
    "e8-int4sym": ["i4 g32 sym"] * 3,
    "e8-int4cw": ["i4 channel sym"] * 3,
    "e8-int4g64": ["u4 g64 asym", "u4 g64 asym", "u4 channel asym"],
    "e8-int4r06": ["u8 channel asym", "u8 channel asym", "u4 g32 asym"],
    "e8-nonorm-int4": FOUR_BIT,
    "e64-int4": FOUR_BIT,
}


@exports
@pytest.mark.parametrize("name", EXPORTED)
def test_exports_of_qwen3_moe_give_two_blocks(name):
    model = ov.Core().read_model(EXPORTS / f"qwen3moe-{name}" / "openvino_model.xml")
    blocks, skipped = find_blocks(model)
    assert skipped == []
    assert len(blocks) == 2
    for block in blocks:
        assert labels(block) == EXPORTED[name]
        sizes = (64, 8) if name.startswith("e64") else (8, 2)
        assert (block.experts, block.top_k, block.hidden, block.intermediate) == (*sizes, H, I)


@exports
def test_the_export_in_mxfp4_is_skipped_with_a_reason():
    model = ov.Core().read_model(EXPORTS / "qwen3moe-e8-mxfp4" / "openvino_model.xml")
    blocks, skipped = find_blocks(model)
    assert blocks == []
    assert len(skipped) == 2
    assert all("holds f4e2m1 weights" in s.reason and "down_proj" in s.reason for s in skipped)


@exports
@pytest.mark.parametrize("name", ["mixtral-e8-int4", "qwen2moe-e8-int8", "phimoe-e8-int4", "lfm2moe-e8-int4"])
def test_exports_of_other_models_of_the_family_are_read(name):
    model = ov.Core().read_model(EXPORTS / name / "openvino_model.xml")
    blocks, skipped = find_blocks(model)
    assert blocks != []
    assert skipped == []
