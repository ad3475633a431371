"""The static island that stands for one MoE block: four operations over buffers for ``max_tokens`` tokens.

Every output of an operation has a static rank-4 shape: the GPU plugin builds the kernels once, at compile
time, whatever the prompt's length. Rows behind the last token have id -2 and cost no work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from openvino.op import Constant

from ov_moe.kernels.block import FOUR_BIT, BlockSpec
from ov_moe.kernels.plan import ID_ABSENT
from ov_moe.kernels.stages import COMBINE, DOWN, GATE_UP, ROUTE, Stage
from ov_moe.ops import MoECombine, MoEDown, MoEGateUp, MoEGateUpFused, MoERoute
from ov_moe.ops.base import Attribute

from .block import MoEBlock
from .raw_bytes import as_u8
from .weights import ExpertWeights


@dataclass(frozen=True, eq=False)
class Tokens:
    """What a block computes on: x [T, H], top-k ids i32 [T, k], top-k weights [T, k]."""

    x: ov.Output
    ids: ov.Output
    weights: ov.Output

    def padded(self, begin: ov.Node, end: ov.Node) -> Tokens:
        """Rows added (or, where negative, cut off) in front and behind; added rows are absent tokens."""
        return Tokens(
            _pad(self.x, begin, end, 0.0),
            _pad(self.ids, begin, end, ID_ABSENT),
            _pad(self.weights, begin, end, 0.0),
        )


@dataclass(frozen=True, eq=False)
class Island:
    """One block's operations, ready to be placed once or more.

    Attributes:
        spec: Sizes and formats.
        name: Of the block; it keeps the operations of different blocks apart.
        balance: The user's switch.
        weights: Inputs of GateUp or GateUpFused from 2 on, then those of Down.
    """

    spec: BlockSpec
    name: str
    balance: str
    weights: tuple[ov.Output, ...]

    def place(self, tokens: Tokens, weights: tuple[ov.Output, ...], suffix: str = "") -> ov.Output:
        """The operations over exactly max_tokens tokens.

        Args:
            tokens: x [TM, H] and so on, in any static shape of as many elements.
            weights: ``self.weights``, or what stands for them inside a loop's body.
            suffix: Keeps the operations of a second placement apart from the first's.

        Returns:
            y [TM, H].
        """
        spec, attributes = self.spec, self.spec.attributes()

        def carried(stage: Stage) -> dict[str, Attribute]:
            own = {name: attributes[name] for name in stage.attributes}
            return {"layer": self.name + suffix, "balance": self.balance, **own}

        def buffer(value: ov.Output, columns: int) -> ov.Output:
            return ops.reshape(value, i64([spec.max_tokens, columns, 1, 1]), special_zero=False).output(0)

        plan = MoERoute([buffer(tokens.ids, spec.top_k)], **carried(ROUTE))
        x = buffer(tokens.x, spec.hidden)
        gate_up, first = spec.gate_up_stage, spec.gate_up_stage.inputs - 2
        projections = MoEGateUp if gate_up is GATE_UP else MoEGateUpFused
        h = projections([x, plan.output(0), *weights[:first]], **carried(gate_up))
        d = MoEDown([h.output(0), plan.output(0), *weights[first:]], **carried(DOWN))
        y = MoECombine([d.output(0), plan.output(0), buffer(tokens.weights, spec.top_k)], **carried(COMBINE))
        for op in (plan, h, d, y):
            op.set_friendly_name(f"{self.name}{suffix}/{op.stage.op_type}")
        return ops.reshape(y, i64([spec.max_tokens, spec.hidden]), special_zero=False).output(0)


def island_of(block: MoEBlock, max_tokens: int, balance: str) -> Island:
    """The island of a matched block."""
    spec = BlockSpec(
        block.experts,
        block.top_k,
        max_tokens,
        block.gate.spec,
        block.up.spec if block.up is not None else None,
        block.down.spec,
        block.layout,
        block.activation,
        block.gate_bias is not None,
        block.down_bias is not None,
    )
    up = _inputs(block.up, 5) if block.up is not None else [_or_stand_in(block.gate_bias, 5)]
    down = [*_inputs(block.down, 2), _or_stand_in(block.down_bias, 5)]
    return Island(spec, block.name, balance, (*_inputs(block.gate, 2), *up, *down))


def _inputs(weights: ExpertWeights, port: int) -> list[ov.Output]:
    """Weights, scales and zero points as an operation takes them at ``port`` and the two after it.

    Constants of types that a kernel cannot have become u8 ones over the same bytes.
    """
    four_bit = weights.spec.precision in FOUR_BIT
    values = as_u8(weights.values) if four_bit else weights.values
    scale, zeros = weights.scale, weights.zero_point
    return [values.output(0), _or_stand_in(scale, port + 1), _or_stand_in(zeros, port + 2)]


def _or_stand_in(constant: Constant | None, port: int) -> ov.Output:
    """A constant, as bytes where its type is none that a kernel can have; one element where there is none.

    The element's value is the port's number, because the GPU plugin merges equal constants and then refuses one
    producer on two ports.
    """
    if constant is None:
        return ops.constant(np.array([port], np.float32)).output(0)
    if constant.get_element_type().get_type_name() in (*FOUR_BIT, "f8e8m0"):
        return as_u8(constant, [int(constant.get_byte_size())]).output(0)
    return constant.output(0)


def _pad(value: ov.Output, begin: ov.Node, end: ov.Node, fill: float) -> ov.Output:
    constant = ops.constant(np.array(fill, value.get_element_type().to_dtype()))
    return ops.pad(value, begin, end, "constant", constant).output(0)


def i64(value: object) -> ov.Node:
    """An i64 constant."""
    return ops.constant(np.array(value, np.int64))
