"""Puts an island in the place of a matched block."""

from __future__ import annotations

from .block import MoEBlock
from .island import build_island


def replace_block(block: MoEBlock, max_tokens: int, balance: str) -> None:
    """Redirect every consumer of ``block.output`` to a new island; the old nodes fall away.

    The replacement takes the block's friendly name and tensor names.
    """
    consumers = block.output.get_target_inputs()
    replacement = build_island(block, max_tokens, balance)
    replacement.get_node().set_friendly_name(block.name)
    replacement.get_tensor().set_names(block.output.get_names())
    for target in consumers:
        target.replace_source_output(replacement)
