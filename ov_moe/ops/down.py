"""MoEDown: rows of h -> rows of d, each by its expert's down projection."""

from __future__ import annotations

from typing import ClassVar

from ov_moe.kernels.attributes import Attribute
from ov_moe.kernels.stages import DOWN, for_decode
from ov_moe.ops.base import MoEOp, projection_defaults


class MoEDown(MoEOp):
    """h [R, I, 1, 1], plan, down (weights [E, H, I], scales, zero points), bias [E, H] -> d [R, H, 1, 1]."""

    stage = DOWN
    defaults: ClassVar[dict[str, Attribute]] = {
        "hidden": 1,
        "intermediate": 1,
        **projection_defaults("down"),
        "down_bias": "none",
        "h_exponents": "none",
        "d_exponents": "none",
    }

    def check_inputs(self) -> None:
        """Shapes and types against the attributes."""
        hidden, intermediate = self.number("hidden"), self.number("intermediate")
        self.check(0, "h", [self.layout.max_rows, self.row_columns("h", "intermediate"), 1, 1])
        self.check_plan()
        self.check_projection("down", 2, hidden, intermediate)
        self.check_bias("down", 5, self.number("experts") * hidden)

    def output_shape(self) -> list[int]:
        """[R, H, 1, 1], or more columns where rows have exponents."""
        return [self.layout.max_rows, self.row_columns("d", "hidden"), 1, 1]


class MoEDownDecode(MoEDown):
    """MoEDown for few tokens: other kernel configuration, same results."""

    stage = for_decode(DOWN)
