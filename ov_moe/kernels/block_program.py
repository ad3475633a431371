"""The program of a stage of a block, without a tensor: what its buffers are follows from the block."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Literal

import numpy as np

from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.compose import program
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.formats import stored_inputs
from ov_moe.kernels.stages import COMBINE, DOWN, ROUTE, Stage
from ov_moe.spec import Activations

Buffer = tuple[tuple[int, ...], str]  # shape and NumPy type
Rows = Literal["float16", "float32"]
"""NumPy type of x, h, d and y: what the plugin's precision hint makes of them."""
ACTIVATIONS: Mapping[str, Activations] = {"float16": "f16", "float32": "f32"}
"""What the choice of kernels calls the types of rows."""


def buffers(stage: Stage, block: BlockSpec, rows: Rows) -> tuple[list[Buffer], Buffer]:
    """The inputs and the output of a stage; scales are f16 where the format has real ones, no bias is one number."""
    tokens, pairs = block.max_tokens, block.plan_layout.max_rows
    plan: Buffer = ((block.plan_layout.size, 1), "int32")
    x: Buffer = ((tokens, block.hidden), rows)
    h: Buffer = ((pairs, block.h_columns), rows)
    d: Buffer = ((pairs, block.d_columns), rows)
    if stage.runs(ROUTE):
        return [((tokens, block.top_k), "int32")], plan
    if stage.runs(COMBINE):
        return [d, plan, ((tokens, block.top_k), rows)], x
    if stage.runs(DOWN):
        bias: Buffer = ((block.experts, block.hidden) if block.down_bias else (1,), rows)
        return [h, plan, *stored_inputs(block.down, block.experts), bias], d
    bias = ((block.experts, 2 * block.intermediate) if block.gate_bias else (1,), rows)
    rest = [bias] if block.up is None else stored_inputs(block.up, block.experts)
    return [x, plan, *stored_inputs(block.gate, block.experts), *rest], h


def largest_buffer(block: BlockSpec, rows: Rows) -> int:
    """Bytes of the largest buffer that any of a block's four stages reads or writes."""
    each = (buffers(stage, block, rows) for stage in (ROUTE, block.gate_up_stage, DOWN, COMBINE))
    return max(prod(shape) * np.dtype(kind).itemsize for inputs, out in each for shape, kind in (*inputs, out))


def block_program(stage: Stage, config: KernelConfig, block: BlockSpec, rows: Rows = "float16") -> str:
    """A complete program, as ``compose.program``; raises as that does."""
    return program(stage, config, block.attributes(), *buffers(stage, block, rows))
