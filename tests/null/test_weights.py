"""Weight chains: what is read is what was stored, and raw bytes outlive the model that brought them."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from graphs import BlockWeights, integer_constant, moe_block_model, pack

from ov_moe.spec import Precision
from ov_moe.transformations.families import find_blocks
from ov_moe.transformations.not_matched import NotMatched
from ov_moe.transformations.raw_bytes import as_u8
from ov_moe.transformations.weights import ExpertWeights

EXPORTS = Path(__file__).resolve().parents[3] / "shared" / "models"
MIB = 1 << 20
OPTIONS = [
    {"precision": "f32"},
    {"precision": "f16"},
    {"precision": "u8"},
    {"precision": "i8"},
    {"precision": "u8", "group_size_8bit": 16},
    {"precision": "u4"},
    {"precision": "u4", "group_size": 0},
    {"precision": "i4"},
    {"precision": "i4", "group_size": 0},
    {"precision": ("u8", "f16", "i4"), "router": "sigmoid"},
    {"precision": "u4", "router": "softmax-nonorm", "blocks": 2},
]


def build(**options: Any) -> tuple[ov.Model, list[BlockWeights]]:
    return moe_block_model(experts=6, top_k=3, hidden=64, intermediate=96, rng=np.random.default_rng(3), **options)


def unpacked(constant: ov.op.Constant) -> np.ndarray:
    """Integers of a constant, 4-bit ones from their bytes."""
    kind = constant.get_element_type().to_string()
    if kind not in ("u4", "i4"):
        return constant.data.astype(np.float64)
    data = as_u8(constant, [constant.get_byte_size()]).data
    nibbles = np.stack([data & 15, data >> 4], 1).reshape(-1)[: np.prod(list(constant.shape))].astype(np.int64)
    return np.where((nibbles > 7) & (kind == "i4"), nibbles - 16, nibbles).reshape(list(constant.shape))


def dense(weights: ExpertWeights) -> np.ndarray:
    values = unpacked(weights.values)
    if weights.zero_point is not None:
        values = values - unpacked(weights.zero_point)
    if weights.scale is not None:
        values = values * weights.scale.data.astype(np.float64)
    return values.reshape(weights.experts, weights.spec.n, weights.spec.k)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_constants_read_are_the_weights_stored(options: dict[str, Any]) -> None:
    model, stored = build(**options)
    blocks, _ = find_blocks(model)
    assert len(blocks) == len(stored)
    for block, weights in zip(blocks, stored, strict=True):
        np.testing.assert_array_equal(dense(block.gate), weights.gate)
        np.testing.assert_array_equal(dense(block.up), weights.up)
        np.testing.assert_array_equal(dense(block.down), weights.down)


def evaluate(x: np.ndarray, weights: BlockWeights, top_k: int, router: str) -> np.ndarray:
    """One block on x [T, H] in float64."""
    logits = x @ weights.router.astype(np.float64).T
    scores = 1 / (1 + np.exp(-logits)) if router == "sigmoid" else np.exp(logits)
    if router != "sigmoid":
        scores /= scores.sum(1, keepdims=True)
    ids = np.argsort(-scores, axis=1)[:, :top_k]
    factors = np.take_along_axis(scores, ids, 1)
    if router != "softmax-nonorm":
        factors /= factors.sum(1, keepdims=True)
    return experts_sum(x, ids, factors, (weights.gate, weights.up, weights.down))


def experts_sum(x: np.ndarray, ids: np.ndarray, factors: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """y[t] = sum over slots of factors[t, s] * expert ids[t, s] of x[t], in float64."""
    gate_w, up_w, down_w = weights
    y = np.zeros_like(x)
    for t in range(len(x)):
        for expert, factor in zip(ids[t], factors[t], strict=True):
            gate, up = gate_w[expert] @ x[t], up_w[expert] @ x[t]
            y[t] += factor * (down_w[expert] @ (gate / (1 + np.exp(-gate)) * up))
    return y


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_cpu_plugin_computes_what_the_stored_weights_mean(options: dict[str, Any]) -> None:
    model, stored = build(**options)
    x = np.random.default_rng(4).standard_normal((2, 5, 64)).astype(np.float32)
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([x])["y"]
    expected = x.reshape(-1, 64).astype(np.float64)
    for weights in stored:
        y = evaluate(expected, weights, 3, options.get("router", "softmax"))
        expected = expected + y if len(stored) > 1 else y
    assert 0.05 < np.abs(expected).mean() < 5
    np.testing.assert_allclose(found.reshape(-1, 64), expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("topk_as_inputs", [True, False])
def test_ids_given_as_inputs_choose_the_experts(topk_as_inputs: bool) -> None:
    model, stored = build(topk_as_inputs=topk_as_inputs, ids_input=not topk_as_inputs, router="softmax-nonorm")
    rng = np.random.default_rng(10)
    x = rng.standard_normal((7, 64)).astype(np.float32)
    ids = np.stack([rng.permutation(6)[:3] for _ in x])
    factors = rng.random((7, 3)).astype(np.float32)
    if topk_as_inputs:
        inputs = {"x": x, "ids": ids.astype(np.int32), "weights": factors}
    else:
        inputs = {"x": x[None], "ids": ids}
        scores = np.exp(x @ stored[0].router.T)
        factors = np.take_along_axis(scores / scores.sum(1, keepdims=True), ids, 1)
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(inputs)["y"].reshape(-1, 64)
    expected = experts_sum(x.astype(np.float64), ids, factors, (stored[0].gate, stored[0].up, stored[0].down))
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("precision", ["u4", "i4", "u8", "i8"])
def test_bytes_are_shared(precision: Precision) -> None:
    values = np.random.default_rng(5).integers(0, 8, (3, 4, 2, 6))
    constant = integer_constant(values, precision, values.shape)
    raw = as_u8(constant)
    assert raw.get_element_type() == ov.Type.u8
    assert list(raw.shape) == ([3, 4, 6] if "4" in precision else [3, 4, 12])
    assert raw.data.ctypes.data == constant.data.ctypes.data
    expected = pack(values) if "4" in precision else values.astype(np.uint8)
    np.testing.assert_array_equal(raw.data.reshape(-1), expected.reshape(-1))


def test_signed_nibbles_come_low_first() -> None:
    raw = as_u8(integer_constant(np.array([[[-1, 2, 7, -8]]]), "i4", [1, 1, 4]))
    assert raw.data.reshape(-1).tolist() == [0x2F, 0x87]


def test_a_flat_shape_serves_zero_points_with_an_odd_count() -> None:
    constant = integer_constant(np.arange(15).reshape(3, 5, 1), "u4", [3, 5, 1])
    with pytest.raises(NotMatched, match="has rows of 1 4-bit elements"):
        as_u8(constant)
    assert as_u8(constant, [8]).data.tolist() == [0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0x0E]


@pytest.mark.parametrize(
    ("precision", "shape", "wanted", "words"),
    [
        ("u4", [2, 3, 7], None, "rows of 7 4-bit elements"),
        ("u4", [2, 3, 8], [25], "has 24 bytes"),
        ("u8", [2, 3], None, r"not \[E, N, ...\]"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(
    precision: Precision, shape: list[int], wanted: list[int] | None, words: str
) -> None:
    with pytest.raises(NotMatched, match=words):
        as_u8(integer_constant(np.ones(shape), precision, shape), wanted)


def test_floats_are_refused() -> None:
    with pytest.raises(NotMatched, match="is f16, not one of u4, i4, u8, i8"):
        as_u8(ov.op.Constant(np.ones((1, 2, 4), np.float16)))


EXPORTED = ["e8-fp32", "e8-fp16", "e8-int8", "e8-int8sym", "e8-int4", "e8-int4sym", "e8-int4cw"]
EXPORTED += ["e8-int4g64", "e8-int4r06", "e8-nonorm-int4", "e64-int4"]
exports = pytest.mark.skipif(not EXPORTS.is_dir(), reason="no folder of exported models beside the repository")


@exports
@pytest.mark.parametrize("name", EXPORTED)
def test_the_cut_of_an_export_computes_its_output(name: str) -> None:
    model = ov.Core().read_model(EXPORTS / f"qwen3moe-{name}" / "openvino_model.xml")
    blocks, _ = find_blocks(model)
    cuts = [(b.x, b.topk_ids, b.topk_weights, b.output) for b in blocks]
    results = [ov.opset15.result(output) for cut in cuts for output in cut]
    model.add_results(results)
    tokens = np.random.default_rng(9).integers(0, 512, (2, 7))
    positions = np.tile(np.arange(7), (2, 1))
    inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "position_ids": positions}
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = list(compiled(inputs | {"beam_idx": np.arange(2, dtype=np.int32)}).values())[-len(results) :]
    for index, block in enumerate(blocks):
        x, ids, factors, y = found[4 * index : 4 * index + 4]
        expected = experts_sum(
            x.astype(np.float64), ids, factors, (dense(block.gate), dense(block.up), dense(block.down))
        )
        np.testing.assert_allclose(y, expected, atol=2e-3 * np.abs(expected).max())


def anonymous_bytes() -> int:
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def saved_weights(path: Path) -> np.ndarray:
    """Saves a model whose u4 weight takes 64 MiB and gives its bytes."""
    packed = np.random.default_rng(6).integers(0, 256, 64 * MIB, np.uint8)
    shape = ov.Shape([64, 1024, 2048])
    weight = ov.op.Constant(ov.Tensor(packed, shape, ov.Type.u4), shared_memory=False)
    weight.set_friendly_name("weight")
    ov.serialize(ov.Model([ov.opset15.convert(weight, "f16").output(0)], []), path)
    return packed


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_bytes_outlive_the_model_and_take_no_memory(tmp_path: Path) -> None:
    expected = saved_weights(tmp_path / "model.xml")
    gc.collect()
    model = ov.Core().read_model(tmp_path / "model.xml")
    constant = next(n for n in model.get_ops() if n.get_friendly_name() == "weight")
    before = anonymous_bytes()
    raw = as_u8(constant)
    assert raw.data[::7].sum() >= 0
    graph = ov.Model([ov.opset15.relu(raw).output(0)], [])
    assert anonymous_bytes() - before < 0.05 * 64 * MIB
    address = constant.data.ctypes.data
    del model, constant, raw
    gc.collect()
    garbage = [np.full(MIB, 0xA5, np.uint8) for _ in range(80)]
    kept = next(n for n in graph.get_ops() if n.get_type_name() == "Constant")
    assert kept.data.ctypes.data == address
    np.testing.assert_array_equal(kept.data.reshape(-1), expected)
    assert len(garbage) == 80


def test_bytes_outlive_a_constant_that_owned_them() -> None:
    values = np.random.default_rng(8).integers(0, 16, (8, 256, 512))
    model = ov.Model([ov.opset15.convert(integer_constant(values, "u4", values.shape), "f16").output(0)], [])
    raw = as_u8(next(n for n in model.get_ops() if n.get_type_name() == "Constant"))
    del model
    gc.collect()
    garbage = [np.full(values.size // 2, 0xA5, np.uint8) for _ in range(40)]
    np.testing.assert_array_equal(raw.data.reshape(-1), pack(values))
    assert len(garbage) == 40
