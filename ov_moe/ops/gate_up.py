"""MoEGateUp and MoEGateUpFused: tokens -> activation(gate, up) of each expert's rows."""

from __future__ import annotations

from typing import ClassVar

from ov_moe.kernels.attributes import Attribute
from ov_moe.kernels.stages import GATE_UP, GATE_UP_FUSED, for_decode
from ov_moe.ops.base import ACTIVATION_DEFAULTS, MoEOp, projection_defaults


class MoEGateUp(MoEOp):
    """x [TM, H, 1, 1], plan, gate and up (weights, scales, zero points each) -> h [R, I, 1, 1].

    Weights are [E, I, H]: f16 or f32, i8, or u8 (u8 itself, or 4-bit values two to a byte).
    """

    stage = GATE_UP
    defaults: ClassVar[dict[str, Attribute]] = {
        "hidden": 1,
        "intermediate": 1,
        **projection_defaults("gate"),
        **projection_defaults("up"),
        **ACTIVATION_DEFAULTS,
        "h_exponents": "none",
    }

    def check_inputs(self) -> None:
        """Shapes and types against the attributes."""
        hidden, intermediate = self.number("hidden"), self.number("intermediate")
        self.check(0, "x", [self.number("max_tokens"), hidden, 1, 1])
        self.check_plan()
        self.check_projection("gate", 2, intermediate, hidden)
        self.check_projection("up", 5, intermediate, hidden)

    def output_shape(self) -> list[int]:
        """[R, I, 1, 1], or more columns where rows have exponents."""
        return [self.layout.max_rows, self.row_columns("h", "intermediate"), 1, 1]


class MoEGateUpFused(MoEOp):
    """x [TM, H, 1, 1], plan, both projections in one (weights, scales, zero points), bias -> h [R, I, 1, 1].

    Weights are [E, 2I, H], the bias has 2I values for each expert, in the order of the rows (attribute
    ``layout``: ``interleaved`` or ``halves``).
    """

    stage = GATE_UP_FUSED
    defaults: ClassVar[dict[str, Attribute]] = {
        "hidden": 1,
        "intermediate": 1,
        **projection_defaults("gate"),
        "gate_bias": "none",
        **ACTIVATION_DEFAULTS,
        "h_exponents": "none",
        "layout": "interleaved",
    }

    def check_inputs(self) -> None:
        """Shapes and types against the attributes."""
        hidden, rows = self.number("hidden"), 2 * self.number("intermediate")
        self.check(0, "x", [self.number("max_tokens"), hidden, 1, 1])
        self.check_plan()
        self.check_projection("gate", 2, rows, hidden)
        self.check_bias("gate", 5, self.number("experts") * rows)

    def output_shape(self) -> list[int]:
        """[R, I, 1, 1], or more columns where rows have exponents."""
        return [self.layout.max_rows, self.row_columns("h", "intermediate"), 1, 1]


class MoEGateUpDecode(MoEGateUp):
    """MoEGateUp for few tokens: other kernel configuration, same results."""

    stage = for_decode(GATE_UP)


class MoEGateUpFusedDecode(MoEGateUpFused):
    """MoEGateUpFused for few tokens: other kernel configuration, same results."""

    stage = for_decode(GATE_UP_FUSED)
