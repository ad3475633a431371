"""The static island that stands for one MoE block: four operations over buffers for ``max_tokens`` tokens.

Every output of an operation has a static rank-4 shape: the GPU plugin builds the kernels once, at compile
time, whatever the prompt's length. Rows behind the last token have id -2 and cost no work.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        weights: Inputs 2 to 7 of GateUp and 2 to 4 of Down.
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
        h = MoEGateUp([x, plan.output(0), *weights[:6]], **carried(GATE_UP))
        d = MoEDown([h.output(0), plan.output(0), *weights[6:]], **carried(DOWN))
        y = MoECombine([d.output(0), plan.output(0), buffer(tokens.weights, spec.top_k)], **carried(COMBINE))
        for op in (plan, h, d, y):
            op.set_friendly_name(f"{self.name}{suffix}/{op.stage.op_type}")
        return ops.reshape(y, i64([spec.max_tokens, spec.hidden]), special_zero=False).output(0)


def island_of(block: MoEBlock, max_tokens: int, balance: str) -> Island:
    """The island of a matched block."""
    spec = BlockSpec(block.experts, block.top_k, max_tokens, block.gate.spec, block.up.spec, block.down.spec)
    weights = (*_inputs(block.gate, 2), *_inputs(block.up, 5), *_inputs(block.down, 2))
    return Island(spec, block.name, balance, weights)


def _inputs(weights: ExpertWeights, port: int) -> list[ov.Output]:
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


def _pad(value: ov.Output, begin: ov.Node, end: ov.Node, fill: float) -> ov.Output:
    constant = ops.constant(np.array(fill, value.get_element_type().to_dtype()))
    return ops.pad(value, begin, end, "constant", constant).output(0)


def i64(value: object) -> ov.Node:
    """An i64 constant."""
    return ops.constant(np.array(value, np.int64))
