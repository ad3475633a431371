"""MoECombine: rows of d -> tokens, weighted and summed in slot order."""

from __future__ import annotations

from typing import ClassVar

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.attributes import MOST_OF_Y, Attribute
from ov_moe.kernels.stages import COMBINE, for_decode
from ov_moe.ops.base import MoEOp


class MoECombine(MoEOp):
    """d [R, H or more, 1, 1], plan, top-k weights [TM, k, 1, 1] -> y [TM, H, 1, 1]; absent tokens are not written."""

    stage = COMBINE
    defaults: ClassVar[dict[str, Attribute]] = {"hidden": 1, "d_exponents": "none"}

    def check_inputs(self) -> None:
        """Shapes and types against the attributes."""
        if self.number("max_tokens") * self.number("hidden") >= MOST_OF_Y:
            raise InvalidInputError(
                f"{self._who()}: {self.number('max_tokens')} tokens x {self.number('hidden')} columns are more than "
                "the kernel can count: lower max_tokens."
            )
        self.check(0, "d", [self.layout.max_rows, self.row_columns("d", "hidden"), 1, 1])
        self.check_plan()
        self.check(2, "top-k weights", [self.number("max_tokens"), self.number("top_k"), 1, 1])

    def output_shape(self) -> list[int]:
        """[TM, H, 1, 1]."""
        return [self.number("max_tokens"), self.number("hidden"), 1, 1]


class MoECombineDecode(MoECombine):
    """MoECombine for few tokens: other kernel configuration, same results."""

    stage = for_decode(COMBINE)
