"""MoEGateUp and MoEGateUpFused: tokens -> activation(gate, up) of each expert's rows."""

from __future__ import annotations

from ov_moe.kernels.stages import GATE_UP, GATE_UP_FUSED, for_decode
from ov_moe.ops.base import MoEOp


class MoEGateUp(MoEOp):
    """x [TM, H, 1, 1], plan, gate and up (weights, scales, zero points each) -> h [R, I, 1, 1].

    Weights are [E, I, H]: f16 or f32, i8, or u8 (u8 itself, or 4-bit values two to a byte).
    """

    stage = GATE_UP

    def check_inputs(self) -> None:
        """Shapes and types against the attributes."""
        block = self.block
        self.check(0, "x", [block.max_tokens, block.hidden, 1, 1])
        self.check_plan()
        self.check_projection("gate", 2, block.gate)
        if block.up is None:
            self.check_bias("gate", 5, block.gate, block.gate_bias)
        else:
            self.check_projection("up", 5, block.up)

    def output_shape(self) -> list[int]:
        """[R, I, 1, 1], or more columns where rows have exponents."""
        return [self.block.plan_layout.max_rows, self.block.h_columns, 1, 1]


class MoEGateUpFused(MoEGateUp):
    """x [TM, H, 1, 1], plan, both projections in one (weights, scales, zero points), bias -> h [R, I, 1, 1].

    Weights are [E, 2I, H], the bias has 2I values for each expert, in the order of the rows (attribute
    ``layout``: ``interleaved`` or ``halves``).
    """

    stage = GATE_UP_FUSED


class MoEGateUpDecode(MoEGateUp):
    """MoEGateUp for few tokens: other kernel configuration, same results."""

    stage = for_decode(GATE_UP)


class MoEGateUpFusedDecode(MoEGateUpFused):
    """MoEGateUpFused for few tokens: other kernel configuration, same results."""

    stage = for_decode(GATE_UP_FUSED)
