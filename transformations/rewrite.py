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
    """The replacement for ``block.output``: the first max_tokens tokens, then the rest in chunks."""
    island = island_of(block, max_tokens, balance)
    tokens = Tokens(
        _rows(block.x, block.hidden),
        _rows(ops.convert(block.topk_ids, "i32").output(0), block.top_k),
        _rows(block.topk_weights, block.top_k),
    )
    length = ops.gather(ops.shape_of(tokens.x, "i64"), i64([0]), i64(0))
    # Negative where T is larger: the rows behind are cut off.
    missing = ops.concat([ops.subtract(i64([max_tokens]), length), i64([0])], 0)
    y = island.place(tokens.padded(i64([0, 0]), missing), island.weights)
    first = ops.slice(y, i64([0]), length, i64([1]), i64([0]))
    rows = tokens.x.get_partial_shape()[0]
    if not (rows.is_static and rows.get_length() <= max_tokens):
        first = ops.concat([first, rest_in_chunks(island, tokens, length)], 0)
    if block.output_shape is not None:
        first = ops.reshape(first, block.output_shape, special_zero=False)
    return first.output(0)


def _rows(value: ov.Output, columns: int) -> ov.Output:
    """[..., columns] as [T, columns]; the same node where it has rank 2 already."""
    if len(value.get_partial_shape()) == 2:
        return value
    return ops.reshape(value, i64([-1, columns]), special_zero=False).output(0)
