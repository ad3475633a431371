"""A static island of a MoE block: four operations over buffers for a fixed number of tokens.

Every output of an operation has a static rank-4 shape: the GPU plugin builds the kernels once, at compile
time, whatever the prompt's length. Rows behind the last token have id -2 and cost no work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from openvino.op import Constant

from ov_moe.kernels.attributes import Attribute
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.formats import FORMATS
from ov_moe.kernels.plan import ID_ABSENT
from ov_moe.kernels.stages import COMBINE, DOWN, ROUTE, Stage, for_decode
from ov_moe.ops import operation_of
from ov_moe.ops.base import MoEOp

from .block import MoEBlock
from .nodes import reshaped
from .raw_bytes import as_u8
from .walk import element_type
from .weights import ExpertWeights

# What a kernel can have; of every other type it takes the bytes.
KERNEL_TYPES = frozenset(row.storage for row in FORMATS.values())


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
        weights: Inputs of GateUp or GateUpFused from 2 on, then those of Down.
        decode: Whether it serves few tokens.
    """

    spec: BlockSpec
    name: str
    weights: tuple[ov.Output, ...]
    decode: bool = False

    def place(self, tokens: Tokens, weights: tuple[ov.Output, ...]) -> ov.Output:
        """The operations over exactly max_tokens tokens.

        Args:
            tokens: x [TM, H] and so on, in any static shape of as many elements.
            weights: ``self.weights``, or what stands for them inside a loop's body.

        Returns:
            y [TM, H].
        """
        spec, attributes = self.spec, self.spec.attributes()

        def placed(stage: Stage, inputs: list[ov.Output]) -> ov.Output:
            step = for_decode(stage) if self.decode else stage
            own: dict[str, Attribute] = {name: attributes[name] for name in stage.attributes}
            op: MoEOp = operation_of(step)(inputs, layer=self.name, **own)
            op.set_friendly_name(f"{self.name}/{step.op_type}")
            return op.output(0)

        def buffer(value: ov.Output, columns: int) -> ov.Output:
            return reshaped(value, [spec.max_tokens, columns, 1, 1])

        plan = placed(ROUTE, [buffer(tokens.ids, spec.top_k)])
        first = spec.gate_up_stage.inputs - 2
        h = placed(spec.gate_up_stage, [buffer(tokens.x, spec.hidden), plan, *weights[:first]])
        d = placed(DOWN, [h, plan, *weights[first:]])
        y = placed(COMBINE, [d, plan, buffer(tokens.weights, spec.top_k)])
        return reshaped(y, [spec.max_tokens, spec.hidden])


def spec_of(block: MoEBlock, max_tokens: int) -> BlockSpec:
    """Sizes and formats of a matched block in buffers for ``max_tokens`` tokens.

    Raises InvalidInputError where the kernels have no room for them.
    """
    return BlockSpec(
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
    ).kept_in_range()


def island_of(block: MoEBlock, max_tokens: int) -> Island:
    """The island of a matched block for up to ``max_tokens`` tokens; raises as ``spec_of``."""
    spec = spec_of(block, max_tokens)
    up = _inputs(block.up, 5) if block.up is not None else [_or_stand_in(block.gate_bias, 5)]
    down = [*_inputs(block.down, 2), _or_stand_in(block.down_bias, 5)]
    return Island(spec, block.name, (*_inputs(block.gate, 2), *up, *down))


def few_tokens_of(island: Island, few_tokens: int) -> Island:
    """The same block for few tokens, over the same weights."""
    return replace(island, spec=replace(island.spec, max_tokens=few_tokens), decode=True)


def _inputs(weights: ExpertWeights, port: int) -> list[ov.Output]:
    """Weights, scales and zero points as an operation takes them at ``port`` and the two after it.

    Constants of types that a kernel cannot have become u8 ones over the same bytes.
    """
    values = weights.values if weights.spec.precision in KERNEL_TYPES else as_u8(weights.values)
    scale, zeros = weights.scale, weights.zero_point
    return [values.output(0), _or_stand_in(scale, port + 1), _or_stand_in(zeros, port + 2)]


def _or_stand_in(constant: Constant | None, port: int) -> ov.Output:
    """A constant, as bytes where its type is none that a kernel can have; one element where there is none.

    Of rank 2 at least: a loop's body reshapes it, and OpenVINO drops a Reshape of one axis to one axis when the model
    is reshaped later.

    The element's value is the port's number, because the GPU plugin merges equal constants and then refuses one
    producer on two ports.
    """
    if constant is None:
        return ops.constant(np.array([[port]], np.float32)).output(0)
    if element_type(constant.output(0)) not in KERNEL_TYPES:
        return as_u8(constant, [1, int(constant.get_byte_size())]).output(0)
    return constant.output(0)


def _pad(value: ov.Output, begin: ov.Node, end: ov.Node, fill: float) -> ov.Output:
    constant = ops.constant(np.array(fill, value.get_element_type().to_dtype()))
    return ops.pad(value, begin, end, "constant", constant).output(0)
