"""The forms of a block beside Qwen3-MoE's: what is read of them, and that it is what the CPU plugin computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest

from ov_moe.testing.families import FORMS
from ov_moe.testing.graphs import BlockWeights, Form, find_node, moe_block_model, route
from ov_moe.transformations.block import MoEBlock
from ov_moe.transformations.families import find_blocks

E, K, H, I = 6, 2, 64, 96  # noqa: E741
PRECISIONS = ["f32", "f16", "u8", "i8", "u4", "i4", "f4e2m1"]
LABELS = ["f32", "f16", "u8 channel asym", "i8 channel sym", "u4 g32 asym", "i4 g32 sym", "f4e2m1 g32 sym"]


def build(**options: Any) -> tuple[ov.Model, list[BlockWeights]]:
    sizes = {"experts": E, "top_k": K, "hidden": H, "intermediate": I}
    return moe_block_model(rng=np.random.default_rng(11), **sizes, **options)


def only_block(model: ov.Model) -> MoEBlock:
    blocks, skipped = find_blocks(model)
    assert skipped == []
    assert len(blocks) == 1
    return blocks[0]


@pytest.mark.parametrize(("precision", "label"), list(zip(PRECISIONS, LABELS, strict=True)))
@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_read_in_each_precision(name: str, precision: str, label: str) -> None:
    form, biases = FORMS[name]
    fused = form.layout != "separate"
    model, stored = build(precision=precision, form=form, biases=biases if fused else "none")
    block = only_block(model)
    assert block.name == "blocks.0/sum"
    assert (block.experts, block.top_k, block.hidden, block.intermediate) == (E, K, H, I)
    assert block.layout == form.layout
    assert (block.up is None) == fused
    assert (block.gate.spec.n, block.down.spec.n) == (2 * I if fused else I, H)
    assert {w.spec.label() for w in (block.gate, block.up, block.down) if w is not None} == {label}
    found, wanted = block.activation, form.activation
    assert (found.kind, found.limit, found.up_offset) == (wanted.kind, wanted.limit, wanted.up_offset)
    assert found.beta == pytest.approx(wanted.beta)
    for constant, values in ((block.gate_bias, stored[0].gate_bias), (block.down_bias, stored[0].down_bias)):
        assert (constant is None) == (values is None)
        if constant is not None:
            np.testing.assert_array_equal(constant.data.reshape(E, -1), values)
    assert block.x == find_node(model, "blocks.0/tile").input_value(0)
    assert block.topk_ids == find_node(model, "blocks.0/ids").output(0)
    assert block.topk_weights == find_node(model, "blocks.0/norm").output(0)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("precision", ["f32", "u4", "f4e2m1"])
def test_the_cpu_plugin_computes_what_the_oracle_says(name: str, precision: str) -> None:
    form, biases = FORMS[name]
    model, stored = build(precision=precision, form=form, biases=biases if form.layout != "separate" else "none")
    x = np.random.default_rng(12).standard_normal((2, 5, H)).astype(np.float32)
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([x])["y"].reshape(-1, H)
    tokens = x.reshape(-1, H).astype(np.float64)
    expected = stored[0].oracle(tokens, *route(tokens, stored[0], K, "softmax"))
    if stored[0].shared is not None:
        expected = expected + tokens @ stored[0].shared.T.astype(np.float64)
    assert 0.02 < np.abs(expected).mean() < 5
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize(("ends", "shape"), [("flat", None), ("slots", [10, 1, H]), ("batch", [2, 5, H])])
@pytest.mark.parametrize("layout", ["separate", "halves"])
def test_y_reshaped_to_the_output_shape_is_the_output(ends: Any, shape: list[int] | None, layout: Any) -> None:
    model, _ = build(precision="f32", form=Form(ends=ends, layout=layout), blocks=2)
    blocks, _ = find_blocks(model)
    assert [block.name for block in blocks] == ["blocks.0/sum", "blocks.1/sum"]
    if shape is None:
        assert [block.output_shape for block in blocks] == [None, None]
        return
    for block in blocks:
        assert block.output_shape is not None
        assert block.output_shape.get_element_type() == ov.Type.i64
        flat = ov.opset13.reshape(block.output, np.array([-1, H]), special_zero=False)
        again = ov.opset13.reshape(flat, block.output_shape, special_zero=False)
        model.add_results([ov.opset13.result(again), ov.opset13.result(block.output)])
    x = np.random.default_rng(13).standard_normal((2, 5, H)).astype(np.float32)
    results = list(ov.Core().compile_model(model, "CPU")([x]).values())[1:]
    assert [list(r.shape) for r in results] == [shape] * 4


def test_finding_leaves_a_model_as_it_was() -> None:
    model, _ = build(form=FORMS["AFMoE"][0], blocks=2)
    before = [[n.get_name(), *(i.get_node().get_name() for i in n.input_values())] for n in model.get_ordered_ops()]
    blocks, _ = find_blocks(model)
    after = [[n.get_name(), *(i.get_node().get_name() for i in n.input_values())] for n in model.get_ordered_ops()]
    assert len(blocks) == 2
    assert before == after


@pytest.mark.parametrize("name", ["AFMoE", "GPT-OSS"])
def test_a_model_of_fixed_shapes_is_read(name: str) -> None:
    form, biases = FORMS[name]
    model, _ = build(form=form, biases=biases)
    model.reshape([2, 5, H])
    block = only_block(model)
    assert block.output_shape is not None
    assert list(block.output.get_shape()) == ([2, 5, H] if name == "AFMoE" else [10, 1, H])
