"""Weight chains: what is read is what was stored, and raw bytes outlive the model that brought them."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from ov_moe import reference
from ov_moe.element_types import e8m0
from ov_moe.kernels.formats import FLOATS, SCALED
from ov_moe.spec import Precision, ProjectionSpec
from ov_moe.testing.graphs import BlockWeights, RawWeights, decompressed, integer_constant, moe_block_model, pack, route
from ov_moe.transformations.families import find_blocks
from ov_moe.transformations.not_matched import NotMatched
from ov_moe.transformations.raw_bytes import BITS, as_u8
from ov_moe.transformations.weights import ExpertWeights, read_weights

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
    {"precision": "f4e2m1"},
    {"precision": "f4e2m1", "group_size": 16},
    {"precision": ("u8", "f16", "i4"), "router": "sigmoid"},
    {"precision": ("i8", "f4e2m1", "u4")},
    {"precision": "u4", "router": "softmax-nonorm", "blocks": 2},
]


def build(**options: Any) -> tuple[ov.Model, list[BlockWeights]]:
    return moe_block_model(experts=6, top_k=3, hidden=64, intermediate=96, rng=np.random.default_rng(3), **options)


def dense(weights: ExpertWeights) -> np.ndarray:
    """Weights [E, N, K] in float64, from the constants' bytes."""

    def data(constant: ov.op.Constant | None) -> np.ndarray | None:
        if constant is None or constant.get_element_type().to_string() not in BITS:
            return None if constant is None else constant.data
        raw = as_u8(constant, [constant.get_byte_size()]).data
        return raw.view(np.int8) if constant.get_element_type() == ov.Type.i8 else raw

    return reference.dequantize(weights.spec, data(weights.values), data(weights.scale), data(weights.zero_point))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_constants_read_are_the_weights_stored(options: dict[str, Any]) -> None:
    model, stored = build(**options)
    blocks, _ = find_blocks(model)
    assert len(blocks) == len(stored)
    for block, weights in zip(blocks, stored, strict=True):
        np.testing.assert_array_equal(dense(block.gate), weights.gate)
        assert block.up is not None
        np.testing.assert_array_equal(dense(block.up), weights.up)
        np.testing.assert_array_equal(dense(block.down), weights.down)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_cpu_plugin_computes_what_the_stored_weights_mean(options: dict[str, Any]) -> None:
    model, stored = build(**options)
    x = np.random.default_rng(4).standard_normal((2, 5, 64)).astype(np.float32)
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([x])["y"]
    expected = x.reshape(-1, 64).astype(np.float64)
    for weights in stored:
        y = weights.oracle(expected, *route(expected, weights, 3, options.get("router", "softmax")))
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
    expected = stored[0].oracle(x, ids, factors)
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("precision", ["u4", "i4", "f4e2m1", "u8", "i8", "f8e8m0"])
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
    with pytest.raises(NotMatched, match=f"is f16, not one of {', '.join(BITS)}"):
        as_u8(ov.op.Constant(np.ones((1, 2, 4), np.float16)))


def test_mxfp4_is_decompressed_as_openvino_does() -> None:
    """Every code at every exponent that the f16 of the graph can hold."""
    codes, exponents = np.tile(np.arange(16), (1, 26, 2)), np.arange(113, 139).reshape(1, 26, 1)
    raw = RawWeights("f4e2m1", codes, exponents.astype(np.uint8))
    model = ov.Model([ov.opset15.result(decompressed(raw, "w"))], [])
    found = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])[0]
    spec = ProjectionSpec("f4e2m1", 26, 32, 32)
    np.testing.assert_array_equal(reference.dequantize(spec, pack(codes), exponents.astype(np.uint8)), found)
    np.testing.assert_array_equal(raw.dense(), found)


def test_scales_of_mxfp4_are_powers_of_two() -> None:
    scales = e8m0(np.array([0, 126, 127, 254, 255], np.uint8))
    np.testing.assert_array_equal(scales, [2.0**-127, 0.5, 1.0, 2.0**127, np.nan])


def scaled(stored: ov.Node, scale: ov.Node) -> ov.Output:
    value = ov.opset15.multiply(ov.opset15.convert(stored, "f16"), scale)
    return ov.opset15.convert(ov.opset15.reshape(value, [2, 4, 64], special_zero=False), "f32").output(0)


def constant_of(precision: str, *shape: int) -> ov.op.Constant:
    """A constant of any type, all bytes 1, called after its type."""
    kind = getattr(ov.Type, precision)
    data = np.ones((int(np.prod(shape)) * kind.bitwidth + 7) // 8, np.uint8)
    stored = ov.op.Constant(ov.Tensor(data, ov.Shape(shape), kind), shared_memory=False)
    stored.set_friendly_name(precision)
    return stored


def codebook(entries: str, ids: str) -> ov.Output:
    """The form of cb4: a codebook looked up by ids, and a scale."""
    table = ov.opset15.convert(constant_of(entries, 16), "f16")
    found = ov.opset15.gather(table, constant_of(ids, 2, 4, 2, 32), np.int64(0), name="lookup")
    value = ov.opset15.multiply(found, ov.op.Constant(np.ones((2, 4, 2, 1), np.float16)))
    return ov.opset15.convert(ov.opset15.reshape(value, [2, 4, 64], special_zero=False), "f32").output(0)


def half_scale() -> ov.Node:
    return ov.opset15.constant(np.ones((2, 4, 2, 1), np.float16), name="half")


READ = f"{', '.join(FLOATS + SCALED)} are read"
REFUSED = {
    "Gather 'lookup' looks weights up in a codebook of f8e4m3 by u4 ids, which is not read": lambda: codebook(
        "f8e4m3", "u4"
    ),
    f"Constant 'nf4' holds nf4 weights; {READ}": lambda: scaled(constant_of("nf4", 2, 4, 2, 32), half_scale()),
    f"Constant 'f8e4m3' holds f8e4m3 weights; {READ}": lambda: scaled(constant_of("f8e4m3", 2, 4, 2, 32), half_scale()),
    f"Constant 'bf16' holds bf16 weights; {READ}": lambda: ov.opset15.convert(
        constant_of("bf16", 2, 4, 64), "f32"
    ).output(0),
    f"Constant 'u2' holds u2 weights; {READ}": lambda: scaled(constant_of("u2", 2, 4, 2, 32), half_scale()),
    "Constant 'half' is a scale of type f16; that of f4e2m1 is f8e8m0": lambda: scaled(
        constant_of("f4e2m1", 2, 4, 2, 32), half_scale()
    ),
    "Constant 'f8e8m0' is a scale of type f8e8m0; that of u4 is f16 or f32": lambda: scaled(
        constant_of("u4", 2, 4, 2, 32), ov.opset15.convert(constant_of("f8e8m0", 2, 4, 2, 1), "f16")
    ),
    "Constant 'f8e4m3' is a scale of type f8e4m3; that of f4e2m1 is f8e8m0": lambda: scaled(
        constant_of("f4e2m1", 2, 4, 2, 32), ov.opset15.convert(constant_of("f8e4m3", 2, 4, 2, 1), "f16")
    ),
    "Constant 'f4e2m1' holds f4e2m1 weights without a scale": lambda: ov.opset15.convert(
        constant_of("f4e2m1", 2, 4, 64), "f32"
    ).output(0),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_format_that_is_not_read_is_refused_by_name(reason: str) -> None:
    with pytest.raises(NotMatched) as refused:
        read_weights(REFUSED[reason]())
    assert str(refused.value) == reason


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
