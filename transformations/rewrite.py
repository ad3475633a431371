"""Puts islands in the place of matched blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import openvino as ov
from openvino import opset13 as ops

from .block import MoEBlock
from .chunks import rest_in_chunks
from .island import Tokens, i64, island_of


def replace_blocks(blocks: Iterable[MoEBlock], max_tokens: int, balance: str) -> None:
    """Redirect every consumer of the blocks' outputs to new islands; the old nodes fall away.

    Args:
        blocks: Matched blocks, in the model's order.
        max_tokens: TM, the tokens that an island has room for.
        balance: The user's switch, stored in the operations.
    """
    replaced: dict[str, ov.Output] = {}
    for block in blocks:
        source = block.x.get_node().get_name()
        # A block may stand directly on the one before it.
        current = replace(block, x=replaced[source]) if source in replaced else block
        replaced[block.output.get_node().get_name()] = _replace(current, max_tokens, balance)


def _replace(block: MoEBlock, max_tokens: int, balance: str) -> ov.Output:
    consumers = block.output.get_target_inputs()
    replacement = build(block, max_tokens, balance)
    replacement.get_node().set_friendly_name(block.name)
    replacement.get_tensor().set_names(block.output.get_names())
    for target in consumers:
        target.replace_source_output(replacement)
    return replacement


def build(block: MoEBlock, max_tokens: int, balance: str) -> ov.Output:
    """The replacement for ``block.output``, f32 [T, H]: the first max_tokens tokens, then the rest in chunks."""
    island = island_of(block, max_tokens, balance)
    tokens = Tokens(block.x, ops.convert(block.topk_ids, "i32").output(0), block.topk_weights)
    length = ops.gather(ops.shape_of(block.x, "i64"), i64([0]), i64(0))
    # Negative where T is larger: the rows behind are cut off.
    missing = ops.concat([ops.subtract(i64([max_tokens]), length), i64([0])], 0)
    y = island.place(tokens.padded(i64([0, 0]), missing), island.weights)
    first = ops.slice(y, i64([0]), length, i64([1]), i64([0]))
    rows = block.x.get_partial_shape()[0]
    if rows.is_static and rows.get_length() <= max_tokens:
        return first.output(0)
    return ops.concat([first, rest_in_chunks(island, tokens, length)], 0).output(0)
