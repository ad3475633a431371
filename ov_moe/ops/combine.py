"""MoECombine: rows of d -> tokens, weighted and summed in slot order."""

from __future__ import annotations

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.attributes import MOST_OF_Y
from ov_moe.kernels.stages import COMBINE, for_decode
from ov_moe.ops.base import MoEOp


class MoECombine(MoEOp):
    """d [R, H or more, 1, 1], plan, top-k weights [TM, k, 1, 1] -> y [TM, H, 1, 1]; absent tokens are not written."""

    stage = COMBINE

    def check_inputs(self) -> None:
        """Shapes and types against the attributes."""
        block = self.block
        if block.max_tokens * block.hidden >= MOST_OF_Y:
            raise InvalidInputError(
                f"{self._who()}: {block.max_tokens} tokens x {block.hidden} columns are more than the kernel can "
                "count: lower max_tokens."
            )
        self.check(0, "d", [block.plan_layout.max_rows, block.d_columns, 1, 1])
        self.check_plan()
        self.check(2, "top-k weights", [block.max_tokens, block.top_k, 1, 1])

    def output_shape(self) -> list[int]:
        """[TM, H, 1, 1]."""
        return [self.block.max_tokens, self.block.hidden, 1, 1]


class MoECombineDecode(MoECombine):
    """MoECombine for few tokens: other kernel configuration, same results."""

    stage = for_decode(COMBINE)
