"""What a block reads and gives inside a model, and what it should give by the weights that were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from ov_moe import reference
from ov_moe.transformations.block import MoEBlock
from ov_moe.transformations.weights import ExpertWeights

# The CPU plugin rounds activations in front of compressed weights unless told otherwise.
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "KV_CACHE_PRECISION": "f32"}


@dataclass(frozen=True)
class Values:
    """x [T, H], top-k ids and weights [T, k], and the block's output y [T, H]."""

    x: np.ndarray
    ids: np.ndarray
    weights: np.ndarray
    y: np.ndarray


def dense(weights: ExpertWeights) -> np.ndarray:
    """Float64 [E, N, K] that the constants stand for."""
    packed = weights.spec.precision in ("u4", "i4", "f4e2m1")

    def stored(constant: ov.op.Constant | None) -> np.ndarray | None:
        return None if constant is None else constant.data.reshape(-1).view(np.uint8 if packed else constant.data.dtype)

    scale = weights.scale
    scales = None if scale is None else scale.data.reshape(-1)
    return reference.dequantize(weights.spec, stored(weights.values), scales, stored(weights.zero_point))


def block_values(core: ov.Core, model: ov.Model, blocks: Sequence[MoEBlock], inputs: Mapping[str, Any]) -> list[Values]:
    """The values of each block on the CPU plugin; the model keeps the Results that show them."""
    shown = [o for b in blocks for o in (b.x, b.topk_ids, b.topk_weights, b.output)]
    model.add_results([ops.result(output) for output in shown])
    found = list(core.compile_model(model, "CPU", EXACT)(dict(inputs)).values())[-len(shown) :]
    return [Values(*found[i : i + 4]) for i in range(0, len(found), 4)]


def expected_of(block: MoEBlock, values: Values) -> np.ndarray:
    """y [T, H] in float64 from what the block reads."""
    gate = dense(block.gate)
    gate, up = reference.split_gate_up(gate, block.layout) if block.up is None else (gate, dense(block.up))
    return reference.moe(values.x, values.ids, values.weights, gate, up, dense(block.down), activation=block.activation)
