"""Leaves blocks alone whose top-k ids are known at compile time.

A plugin would fold Route into a constant plan, whose tickets are used up after the first inference.
"""

from __future__ import annotations

from collections.abc import Sequence

import openvino as ov

from .block import MoEBlock, Skipped

_SOURCES = ("Parameter", "ReadValue")


def computed_blocks(blocks: Sequence[MoEBlock], skipped: Sequence[Skipped]) -> tuple[list[MoEBlock], list[Skipped]]:
    """The blocks whose ids follow from an input or a state of the model; the others join ``skipped``."""
    kept = [block for block in blocks if _varies(block.topk_ids)]
    constant = [
        Skipped(block.name, f"its top-k ids, '{block.topk_ids.get_node().get_friendly_name()}', are constant")
        for block in blocks
        if block not in kept
    ]
    return kept, [*skipped, *constant]


def _varies(output: ov.Output) -> bool:
    """Whether a Parameter or a state is among the producers, shapes of dynamic inputs included."""
    queue, seen = [output.get_node()], {output.get_node().get_name()}
    while queue:
        node = queue.pop()
        if node.get_type_name() in _SOURCES:
            return True
        if node.get_type_name() == "ShapeOf" and node.get_input_partial_shape(0).is_static:
            continue
        for value in node.input_values():
            if value.get_node().get_name() not in seen:
                seen.add(value.get_node().get_name())
                queue.append(value.get_node())
    return False
