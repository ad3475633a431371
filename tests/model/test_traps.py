"""The traps of the GPU plugin that others fell into, each with the case that shows it."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from blocks_on_plugin import F32, LIMIT, SMALL

import ov_moe
from ov_moe import reference
from ov_moe.testing.graphs import moe_block_model

ROUTED = {**SMALL, "topk_as_inputs": True}


@pytest.fixture(scope="module")
def core() -> ov.Core:
    return ov.Core()


@pytest.fixture(scope="module")
def routed(core):
    """A block that takes its ids as inputs, on the GPU plugin, and its weights."""
    model, weights = moe_block_model(rng=np.random.default_rng(11), **ROUTED)
    assert ov_moe.optimize(model, "on", max_tokens=16).rewritten
    return ov_moe.compile_model(core, model, "GPU", F32), weights[0]


def _run(routed, x, ids, topk_weights):
    """The fused block's result, checked against the float64 oracle."""
    compiled, w = routed
    y = compiled({"x": x, "ids": ids, "weights": topk_weights})[0]
    expected = reference.moe(x, ids, topk_weights, w.gate, w.up, w.down)
    np.testing.assert_allclose(y, expected, rtol=0, atol=LIMIT * max(np.abs(expected).max(), 1e-3))
    return y


IDS = {
    "all tokens on the same experts": lambda rng, t: np.tile([3, 5], (t, 1)),
    "one hot expert": lambda rng, t: np.stack([np.full(t, 6), rng.integers(0, 6, t)], 1),
    "first and last expert empty": lambda rng, t: np.stack([rng.integers(1, 4, t), rng.integers(4, 7, t)], 1),
    "no expert at all": lambda rng, t: np.full((t, 2), -1),
    "padded tokens between": lambda rng, t: np.where(rng.random((t, 1)) < 0.5, -1, [0, 7]),
    "one slot only": lambda rng, t: np.stack([rng.integers(0, 8, t), np.full(t, -1)], 1),
}


@pytest.mark.parametrize("tokens", [1, 16, 17, 50])
@pytest.mark.parametrize("name", IDS)
def test_uneven_ids(routed, rng, name, tokens):
    ids = IDS[name](rng, tokens).astype(np.int32)
    _run(routed, rng.standard_normal((tokens, 64)).astype(np.float32), ids, rng.random((tokens, 2)).astype(np.float32))


def test_an_id_out_of_range_makes_its_token_nan_and_no_other(routed, rng):
    compiled, _ = routed
    x, weights = rng.standard_normal((9, 64)).astype(np.float32), rng.random((9, 2)).astype(np.float32)
    ids = rng.integers(0, 8, (9, 2)).astype(np.int32)
    ids[4, 1] = 8
    y = compiled({"x": x, "ids": ids, "weights": weights})[0]
    assert np.isnan(y[4]).all()
    assert np.isfinite(np.delete(y, 4, axis=0)).all()


def test_no_token_at_all(routed):
    compiled, _ = routed
    empty = {
        "x": np.zeros((0, 64), np.float32),
        "ids": np.zeros((0, 2), np.int32),
        "weights": np.zeros((0, 2), np.float32),
    }
    assert compiled(empty)[0].shape == (0, 64)


def test_permuted_tokens_give_permuted_bits(routed, rng):
    x, weights = rng.standard_normal((31, 64)).astype(np.float32), rng.random((31, 2)).astype(np.float32)
    ids = rng.integers(0, 8, (31, 2)).astype(np.int32)
    order = rng.permutation(31)
    assert np.array_equal(_run(routed, x, ids, weights)[order], _run(routed, x[order], ids[order], weights[order]))


def test_two_layers_with_the_same_ids_keep_their_own_tickets(core, rng):
    model, weights = moe_block_model(rng=rng, **{**ROUTED, "blocks": 2})
    assert len(ov_moe.optimize(model, "on", max_tokens=16).rewritten) == 2
    compiled = ov_moe.compile_model(core, model, "GPU", F32)
    x, ids = rng.standard_normal((12, 64)).astype(np.float32), rng.integers(0, 8, (12, 2)).astype(np.int32)
    topk = rng.random((12, 2)).astype(np.float32)
    expected = x.astype(np.float64)
    for w in weights:
        expected = expected + reference.moe(expected, ids, topk, w.gate, w.up, w.down)
    for _ in range(3):
        y = compiled({"x": x, "ids": ids, "weights": topk})[0]
        np.testing.assert_allclose(y, expected, rtol=0, atol=LIMIT * np.abs(expected).max())


def test_constant_ids_are_left_alone(core, rng):
    model, _ = moe_block_model(rng=rng, **ROUTED)
    ids = ov.opset13.constant(rng.integers(0, 8, (5, 2)).astype(np.int32))
    parameter = model.input("ids").get_node()
    for target in parameter.output(0).get_target_inputs():
        target.replace_source_output(ids.output(0))
    model.remove_parameter(parameter)
    model.reshape({"x": [5, 64], "weights": [5, 2]})
    report = ov_moe.optimize(model)
    assert not report.rewritten
    assert "are constant" in report.skipped[0].reason


def test_the_weights_outlive_the_source_model(core, rng, tmp_path: Path):
    model, _ = moe_block_model(rng=rng, **SMALL)
    ov.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    model = core.read_model(tmp_path / "model.xml")
    x = rng.standard_normal((1, 20, 64)).astype(np.float32)
    expected = core.compile_model(model, "CPU", F32)(x)[0]
    ov_moe.optimize(model, max_tokens=16)
    compiled = [ov_moe.compile_model(core, model, device, F32) for device in ("GPU", "CPU")]
    del model
    gc.collect()
    rubbish = [np.full(1 << 16, 0xA5, np.uint8) for _ in range(200)]
    for fused in compiled:
        np.testing.assert_allclose(fused(x)[0], expected, rtol=0, atol=LIMIT * np.abs(expected).max())
    del rubbish


@pytest.mark.parametrize("precision", ["u4", "i8", ("u8", "u4", "f16")])
def test_a_saved_model_gives_the_same_bits(core, rng, tmp_path: Path, precision):
    model, _ = moe_block_model(rng=rng, **{**SMALL, "precision": precision})
    x = rng.standard_normal((1, 20, 64)).astype(np.float32)
    ov_moe.optimize(model, "on", max_tokens=13)  # 13 divides nothing; 20 tokens need the loop
    options = {"groups": 5}
    before = {device: ov_moe.compile_model(core, model, device, F32, **options)(x)[0] for device in ("GPU", "CPU")}
    ov.save_model(model, tmp_path / "fused.xml", compress_to_fp16=False)
    fresh = ov.Core()
    ov_moe.register(fresh)
    again = fresh.read_model(tmp_path / "fused.xml")
    for device, expected in before.items():
        assert np.array_equal(ov_moe.compile_model(fresh, again, device, F32, **options)(x)[0], expected)


def test_x_that_is_a_slice_of_a_larger_buffer(core, rng):
    """The plugin may hand over a view: pitches and offset then differ from a dense buffer's."""
    model, _ = moe_block_model(rng=rng, **SMALL)
    parameter = model.input("x").get_node()
    wide = ov.opset13.parameter([1, 7, 3 * 64], ov.Type.f32, name="wide")
    wide.output(0).get_tensor().set_names({"wide"})
    parts = ov.opset13.split(wide, ov.opset13.constant(2), 3)
    for target in parameter.output(0).get_target_inputs():
        target.replace_source_output(parts.output(1))
    model.remove_parameter(parameter)
    model.add_parameters([wide])
    model.validate_nodes_and_infer_types()
    unfused = core.compile_model(model.clone(), "CPU", F32)
    assert ov_moe.optimize(model, max_tokens=7).rewritten
    fused = ov_moe.compile_model(core, model, "GPU", F32)
    x = rng.standard_normal((1, 7, 3 * 64)).astype(np.float32)
    expected = unfused(x)[0]
    np.testing.assert_allclose(fused(x)[0], expected, rtol=0, atol=LIMIT * np.abs(expected).max())


def test_half_precision_stays_within_its_rounding(core, rng):
    """With the f16 hint, x, h, d and y are each rounded to f16; everything between is fp32.

    Budget: x and the weights' scales are off by half an ulp, 2**-11 each, h and d by another, over sums whose
    terms partly cancel: 8 roundings against the largest output bound them (measured: about 2 of 8).
    """
    model, _ = moe_block_model(rng=np.random.default_rng(12), **ROUTED)
    _, weights = moe_block_model(rng=np.random.default_rng(12), **ROUTED)
    ov_moe.optimize(model, max_tokens=16)
    compiled = ov_moe.compile_model(core, model, "GPU", {"INFERENCE_PRECISION_HINT": "f16"})
    x, ids = rng.standard_normal((30, 64)).astype(np.float32), rng.integers(0, 8, (30, 2)).astype(np.int32)
    topk = rng.random((30, 2)).astype(np.float32)
    y = compiled({"x": x, "ids": ids, "weights": topk})[0]
    w = weights[0]
    expected = reference.moe(x, ids, topk, w.gate, w.up, w.down)
    error = np.abs(y - expected).max() / np.abs(expected).max()
    print(f"f16: {error * 2**11:.2f} roundings")
    assert 1e-6 < error < 8 * 2**-11
