"""Exports of real architectures, tiny and with random weights: how many blocks are read, and what they compute."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import openvino as ov
import pytest

from ov_moe import reference
from ov_moe.spec import Activation, GateUpLayout
from ov_moe.transformations.block import MoEBlock
from ov_moe.transformations.families import find_blocks
from ov_moe.transformations.raw_bytes import as_u8
from ov_moe.transformations.weights import ExpertWeights

EXPORTS = Path(__file__).resolve().parents[3] / "shared" / "models"
pytestmark = pytest.mark.skipif(not EXPORTS.is_dir(), reason="no folder of exported models beside the repository")


class Export(NamedTuple):
    """What must be read: blocks, weights of the first one (gate, [up,] down), (E, k, I), rank of its output."""

    blocks: int
    weights: str
    sizes: tuple[int, int, int] = (8, 2, 64)
    rank: int = 2
    layout: GateUpLayout = "separate"


U4, U8, I8 = "u4 g32 asym", "u8 channel asym", "i8 channel sym"
# Every export in tiled form; the others stand in tests of the families that read them.
TILED = {
    "afmoe-e8-int4": Export(1, U4, rank=3),
    "gptoss-e32-int4": Export(2, U4, (32, 4, 64), 3, "interleaved"),
    "gptoss-e4-fp16": Export(2, "f16", (4, 2, 128), 3, "interleaved"),
    "gptoss-e4-int4": Export(2, U4, (4, 2, 128), 3, "interleaved"),
    "gptoss-e4-int4sym": Export(2, "i4 g32 sym", (4, 2, 128), 3, "interleaved"),
    "gptoss-e4-int8": Export(2, U8, (4, 2, 128), 3, "interleaved"),
    "gptoss-e4-mxfp4": Export(2, "f4e2m1 g32 sym", (4, 2, 128), 3, "interleaved"),
    "lfm2moe-e8-int4": Export(1, U4),
    "mixtral-e8-fp16": Export(2, "f16"),
    "mixtral-e8-int4": Export(2, U4),
    "phimoe-e8-int4": Export(2, U4),
    "qwen2moe-e8-int4": Export(2, U4),
    "qwen2moe-e8-int8": Export(2, U8),
    "qwen3moe-e64-int4": Export(2, U4, (64, 8, 64)),
    "qwen3moe-e8-fp16": Export(2, "f16"),
    "qwen3moe-e8-fp32": Export(2, "f32"),
    "qwen3moe-e8-int4": Export(2, U4),
    "qwen3moe-e8-int4cw": Export(2, "i4 channel sym"),
    "qwen3moe-e8-int4g64": Export(2, "u4 g64 asym, u4 g64 asym, u4 channel asym"),
    "qwen3moe-e8-int4r06": Export(2, f"{U8}, {U8}, {U4}"),
    "qwen3moe-e8-int4sym": Export(2, "i4 g32 sym"),
    "qwen3moe-e8-int8": Export(2, U8),
    "qwen3moe-e8-int8sym": Export(2, I8),
    "qwen3moe-e8-mxfp4": Export(2, "f4e2m1 g32 sym"),
    "qwen3moe-e8-nonorm-int4": Export(2, U4),
    "tf457-qwen3moe-e8-int4": Export(2, U4, rank=3),
}
H = 128


def read(name: str) -> tuple[ov.Model, list[MoEBlock]]:
    model = ov.Core().read_model(EXPORTS / name / "openvino_model.xml")
    blocks, skipped = find_blocks(model)
    assert skipped == []
    return model, blocks


def projections(block: MoEBlock) -> list[ExpertWeights]:
    return [weights for weights in (block.gate, block.up, block.down) if weights is not None]


@pytest.mark.parametrize("name", TILED)
def test_every_block_of_an_export_is_read(name: str) -> None:
    expected = TILED[name]
    _, blocks = read(name)
    assert len(blocks) == expected.blocks
    labels = [weights.spec.label() for weights in projections(blocks[0])]
    assert labels == (expected.weights.split(", ") if "," in expected.weights else [expected.weights] * len(labels))
    for block in blocks:
        assert (block.experts, block.top_k, block.intermediate, block.hidden) == (*expected.sizes, H)
        assert block.layout == expected.layout
        assert (block.up is None) == (block.gate_bias is not None) == (expected.layout != "separate")
        assert (block.output_shape is None) == (expected.rank == 2)
        assert block.output.get_partial_shape().rank.get_length() == expected.rank


@pytest.mark.parametrize("name", [name for name in TILED if name.startswith("gptoss")])
def test_the_activation_of_gpt_oss_is_read_from_the_graph(name: str) -> None:
    for block in read(name)[1]:
        beta = block.activation.beta
        assert block.activation == Activation("swiglu", beta, limit=7.0, up_offset=1.0)
        assert beta == pytest.approx(1.702, rel=1e-3)  # f16 in the fp16 export
        assert block.down_bias is not None
        precision = "f16" if name.endswith("fp16") else "f32"
        biases = {bias.get_element_type().to_string() for bias in (block.gate_bias, block.down_bias) if bias}
        assert biases == {precision}


def dense(weights: ExpertWeights) -> np.ndarray:
    """Weights [E, N, K] in float64, from the constants' bytes."""
    packed = weights.spec.precision in ("u4", "i4", "f4e2m1")

    def stored(constant: ov.op.Constant) -> np.ndarray:
        four_bit = packed and constant is not weights.scale
        data = as_u8(constant, [constant.get_byte_size()]).data if four_bit else constant.data
        return np.asarray(data)

    scale = None if weights.scale is None else stored(weights.scale).reshape(weights.scale.shape)
    zero_point = None if weights.zero_point is None else stored(weights.zero_point)
    return reference.dequantize(weights.spec, stored(weights.values), scale, zero_point)


def oracle(block: MoEBlock, x: np.ndarray, ids: np.ndarray, factors: np.ndarray) -> np.ndarray:
    biases: dict[str, np.ndarray | None] = {}
    if block.up is not None:
        gate, up = dense(block.gate), dense(block.up)
    else:
        gate, up = reference.split_gate_up(dense(block.gate), block.layout)
    if block.gate_bias is not None and block.down_bias is not None:
        stored = block.gate_bias.data.reshape(block.experts, -1).astype(np.float64)
        biases["gate_bias"], biases["up_bias"] = reference.split_gate_up(stored, block.layout)
        biases["down_bias"] = block.down_bias.data.reshape(block.experts, -1).astype(np.float64)
    return reference.moe(x, ids, factors, gate, up, dense(block.down), activation=block.activation, **biases)


@pytest.mark.parametrize("name", TILED)
def test_the_cut_of_an_export_computes_its_output(name: str) -> None:
    model, blocks = read(name)
    cuts = [(b.x, b.topk_ids, b.topk_weights, b.output) for b in blocks]
    shapes = [b.output_shape for b in blocks if b.output_shape is not None]
    results = [ov.opset15.result(output) for cut in cuts for output in cut] + [ov.opset15.result(s) for s in shapes]
    model.add_results(results)
    tokens = np.random.default_rng(9).integers(0, 512, (2, 7))
    positions = np.tile(np.arange(7), (2, 1))
    inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "position_ids": positions}
    inputs = {i.any_name: inputs.get(i.any_name, np.arange(2, dtype=np.int32)) for i in model.inputs}
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = list(compiled(inputs).values())[-len(results) :]
    for index, block in enumerate(blocks):
        x, ids, factors, y = found[4 * index : 4 * index + 4]
        assert x.shape == (14, H)
        expected = oracle(block, x, ids, factors)
        np.testing.assert_allclose(y.reshape(-1, H), expected, atol=2e-3 * np.abs(expected).max())
        if shapes:
            assert expected.reshape(found[4 * len(blocks) + index]).shape == y.shape
