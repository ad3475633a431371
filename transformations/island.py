"""Builds the static island that stands for one MoE block: Pad and Reshape around four operations.

Every output of an operation on the island has a static rank-4 shape, sized for ``max_tokens``: the GPU plugin
builds the kernels once, at compile time, whatever the prompt's length. Rows behind the last token have id -2
and cost no work.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.plan import ID_ABSENT
from ov_moe.kernels.stages import COMBINE, DOWN, GATE_UP, ROUTE, Stage
from ov_moe.ops import MoECombine, MoEDown, MoEGateUp, MoERoute
from ov_moe.ops.base import Attribute

from .block import MoEBlock
from .raw_bytes import as_u8
from .weights import ExpertWeights


def block_spec(block: MoEBlock, max_tokens: int) -> BlockSpec:
    """The sizes and formats of a matched block."""
    return BlockSpec(block.experts, block.top_k, max_tokens, block.gate.spec, block.up.spec, block.down.spec)


def kernel_inputs(weights: ExpertWeights, port: int) -> list[ov.Output]:
    """Weights, scales and zero points as an operation takes them at ``port`` and the two after it.

    4-bit constants become u8 ones over the same bytes. What a format lacks is one element; its value is the
    port's number, because the GPU plugin merges equal constants and then refuses one producer on two ports.
    """
    four_bit = weights.spec.precision in ("u4", "i4")
    inputs: list[ov.Node] = [as_u8(weights.values) if four_bit else weights.values]
    for place, constant in enumerate((weights.scale, weights.zero_point), start=port + 1):
        if constant is None:
            inputs.append(ops.constant(np.array([place], np.float32)))
        elif constant.get_element_type().get_type_name() in ("u4", "i4"):
            inputs.append(as_u8(constant, [int(constant.get_byte_size())]))
        else:
            inputs.append(constant)
    return [node.output(0) for node in inputs]


def build_island(block: MoEBlock, max_tokens: int, balance: str) -> ov.Output:
    """The replacement for ``block.output``, f32 [T, H].

    Args:
        block: A matched block.
        max_tokens: TM, the tokens that the island has room for.
        balance: The user's switch, stored in the operations.
    """
    spec = block_spec(block, max_tokens)
    attributes = spec.attributes()

    def carried(stage: Stage) -> dict[str, Attribute]:
        return {
            "layer": block.name,
            "balance": balance,
            **{name: attributes[name] for name in stage.attributes},
        }

    tokens = ops.gather(ops.shape_of(block.x, "i64"), _i64([0]), _i64(0))
    missing = ops.subtract(_i64([max_tokens]), tokens)
    pads = ops.concat([missing, _i64([0])], 0)
    ids = ops.convert(block.topk_ids, "i32")
    plan = MoERoute([_padded(ids, pads, ID_ABSENT, [max_tokens, block.top_k])], **carried(ROUTE))
    x = _padded(block.x, pads, 0.0, [max_tokens, block.hidden])
    gate_up = [*kernel_inputs(block.gate, 2), *kernel_inputs(block.up, 5)]
    h = MoEGateUp([x, plan.output(0), *gate_up], **carried(GATE_UP))
    d = MoEDown([h.output(0), plan.output(0), *kernel_inputs(block.down, 2)], **carried(DOWN))
    weights = _padded(block.topk_weights, pads, 0.0, [max_tokens, block.top_k])
    y = MoECombine([d.output(0), plan.output(0), weights], **carried(COMBINE))
    for op in (plan, h, d, y):
        op.set_friendly_name(f"{block.name}/{op.stage.op_type}")
    flat = ops.reshape(y, _i64([max_tokens, block.hidden]), special_zero=False)
    return ops.slice(flat, _i64([0]), tokens, _i64([1]), _i64([0])).output(0)


def _padded(value: ov.Output | ov.Node, pads: ov.Node, fill: float, shape: list[int]) -> ov.Output:
    """``value`` with rows appended up to ``shape`` [rows, columns], as [rows, columns, 1, 1]."""
    node = value if isinstance(value, ov.Output) else value.output(0)
    constant = ops.constant(np.array(fill, node.get_element_type().to_dtype()))
    padded = ops.pad(node, _i64([0, 0]), pads, "constant", constant)
    return ops.reshape(padded, _i64([*shape, 1, 1]), special_zero=False).output(0)


def _i64(value: object) -> ov.Node:
    return ops.constant(np.array(value, np.int64))
