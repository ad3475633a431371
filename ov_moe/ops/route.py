"""MoERoute: top-k ids -> plan."""

from __future__ import annotations

import openvino as ov

from ov_moe.kernels.stages import ROUTE, for_decode
from ov_moe.ops.base import MoEOp


class MoERoute(MoEOp):
    """ids i32 [TM, k, 1, 1] -> plan i32 [P, 1, 1, 1].

    An id is an expert's index, -1 (padding: contributes zero) or -2 (no token there at all).
    """

    stage = ROUTE

    def check_inputs(self) -> None:
        """ids must be i32 [max_tokens, top_k, 1, 1]."""
        self.check(0, "ids", [self.block.max_tokens, self.block.top_k, 1, 1], ("i32",))

    def output_shape(self) -> list[int]:
        """[P, 1, 1, 1], P from PlanLayout."""
        return [self.block.plan_layout.size, 1, 1, 1]

    def output_type(self) -> ov.Type:
        """Always i32."""
        return ov.Type.i32


class MoERouteDecode(MoERoute):
    """MoERoute for few tokens: other kernel configuration, same results."""

    stage = for_decode(ROUTE)
