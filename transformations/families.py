"""The known forms of a Mixture-of-Experts block; a new one is a file with a ``find`` and an entry here."""

from __future__ import annotations

from collections.abc import Callable

import openvino as ov

from .block import MoEBlock, Skipped
from .sorted import by_expert
from .tiled import fused, separate
from .unrolled import masked

Finder = Callable[[ov.Model], tuple[list[MoEBlock], list[Skipped]]]

FAMILIES: tuple[Finder, ...] = (
    separate.find,
    fused.find,
    masked.find,
    by_expert.find,
)


def find_blocks(model: ov.Model) -> tuple[list[MoEBlock], list[Skipped]]:
    """Finds every block that some family reads; the model is only read.

    Args:
        model: Any model; one without Mixture-of-Experts blocks gives two empty lists.

    Returns:
        The blocks in the order of the graph, and the regions that no family reads, each once, with the reasons of all
        families that saw it.
    """
    blocks: dict[str, MoEBlock] = {}
    reasons: dict[str, list[str]] = {}
    for find in FAMILIES:
        found, skipped = find(model)
        for block in found:
            blocks.setdefault(block.output.get_node().get_name(), block)
        for region in skipped:
            reasons.setdefault(region.name, []).append(region.reason)
    names = {block.name for block in blocks.values()}
    left = [Skipped(name, "; ".join(dict.fromkeys(r))) for name, r in reasons.items() if name not in names]
    return [blocks[node.get_name()] for node in model.get_ordered_ops() if node.get_name() in blocks], left
