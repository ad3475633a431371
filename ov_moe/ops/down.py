"""MoEDown: rows of h -> rows of d, each by its expert's down projection."""

from __future__ import annotations

from ov_moe.kernels.stages import DOWN, for_decode
from ov_moe.ops.base import MoEOp


class MoEDown(MoEOp):
    """h [R, I, 1, 1], plan, down (weights [E, H, I], scales, zero points), bias [E, H] -> d [R, H, 1, 1]."""

    stage = DOWN

    def check_inputs(self) -> None:
        """Shapes and types against the attributes."""
        block = self.block
        self.check(0, "h", [block.plan_layout.max_rows, block.h_columns, 1, 1])
        self.check_plan()
        self.check_projection("down", 2, block.down)
        self.check_bias("down", 5, block.down, block.down_bias)

    def output_shape(self) -> list[int]:
        """[R, H, 1, 1], or more columns where rows have exponents."""
        return [self.block.plan_layout.max_rows, self.block.d_columns, 1, 1]


class MoEDownDecode(MoEDown):
    """MoEDown for few tokens: other kernel configuration, same results."""

    stage = for_decode(DOWN)
