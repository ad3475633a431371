"""The sizes that follow from the number of tokens: computed once for all blocks that see the same tokens.

All of it is addition, multiplication, division, minimum and maximum of one-element tensors, which the GPU plugin
keeps on the host; a comparison would go to the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import openvino as ov
from openvino import opset13 as ops

from .nodes import i64

# No prompt is as long as this; it fits the i32 that the GPU plugin computes sizes in.
FAR = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Lengths:
    """T tokens are either few, then the decode island takes all of them, or many, then the loop does.

    Attributes:
        few: T or 0: tokens of the decode island; i64 [1], as all others.
        many: 0 or T: tokens of the loop.
        few_begin: Rows to add in front of the tokens for the decode island, [-many, 0].
        few_end: Rows to add behind them, up to its room.
        chunks: Iterations of the loop.
        many_begin: Rows to add in front of the tokens for the loop, [-few, 0].
        many_end: Rows to add behind them, up to whole chunks.
        behind: T - FAR: negative, which shape inference cannot know.
    """

    few: ov.Node
    many: ov.Node
    few_begin: ov.Node
    few_end: ov.Node
    chunks: ov.Node
    many_begin: ov.Node
    many_end: ov.Node
    behind: ov.Node


def lengths_of(tokens: ov.Output, few_tokens: int, max_tokens: int) -> Lengths:
    """The sizes for ``tokens`` [T, columns].

    Args:
        tokens: Only its first dimension is read.
        few_tokens: Room of the decode island.
        max_tokens: Tokens of a chunk.
    """
    total = ops.gather(ops.shape_of(tokens, "i64"), i64([0]), i64(0))
    above = ops.divide(ops.maximum(ops.subtract(total, i64([1])), i64([0])), i64([few_tokens]))
    many = ops.multiply(total, ops.minimum(above, i64([1])))
    few = ops.subtract(total, many)
    chunks = ops.divide(ops.add(many, i64([max_tokens - 1])), i64([max_tokens]))

    def rows(count: ov.Node) -> ov.Node:
        return ops.concat([count, i64([0])], 0)

    return Lengths(
        few=few,
        many=many,
        few_begin=rows(ops.multiply(many, i64([-1]))),
        few_end=rows(ops.subtract(i64([few_tokens]), few)),
        chunks=chunks,
        many_begin=rows(ops.multiply(few, i64([-1]))),
        many_end=rows(ops.subtract(ops.multiply(chunks, i64([max_tokens])), many)),
        behind=ops.subtract(total, i64([FAR])),
    )
