"""Which blocks see the same tokens, so that the sizes that follow from their number are computed once."""

from __future__ import annotations

from collections.abc import Sequence

import openvino as ov

from .block import MoEBlock
from .walk import dims

# What passes on one row for each token, in residual connections, norms and views.
_PASSING = frozenset(
    ("Add", "Convert", "Divide", "Multiply", "Power", "Reshape", "Squeeze", "Subtract", "Tanh", "Unsqueeze")
)
_BROADCASTING = frozenset(("Add", "Divide", "Multiply", "Power", "Subtract"))


def token_sources(blocks: Sequence[MoEBlock]) -> list[str]:
    """For each block the name of the node that its tokens come from; equal names mean equal numbers of tokens.

    The walk goes from a block's x upwards through nodes that keep [..., H]; at an addition it takes either side
    and at another block's output that block's x. A sum could broadcast a side over more tokens though their shapes
    are not known to differ: the Reshape to the island's fixed size then fails and names the node, nothing is silently
    wrong.
    """
    inner = {block.output.get_node().get_name(): block for block in blocks}
    return [_source(block, inner) for block in blocks]


def _source(block: MoEBlock, inner: dict[str, MoEBlock]) -> str:
    current, hidden = block.x, block.hidden
    while True:
        node = current.get_node()
        if node.get_name() in inner:
            current = inner[node.get_name()].x
            continue
        step = _carrier(node, hidden) if node.get_type_name() in _PASSING else None
        if step is None:
            return f"{node.get_name()}#{current.get_index()}"
        current = step


def _carrier(node: ov.Node, hidden: int) -> ov.Output | None:
    """The operand that carries the tokens: the first that is computed and [..., hidden], like the result."""
    if not _wide(node.output(0), hidden):
        return None
    values = node.input_values()[:1] if node.get_type_name() == "Reshape" else node.input_values()
    if node.get_type_name() in _BROADCASTING:
        values = [value for value in values if value.get_partial_shape() == node.get_output_partial_shape(0)]
    return next((v for v in values if _wide(v, hidden) and v.get_node().get_type_name() != "Constant"), None)


def _wide(output: ov.Output, hidden: int) -> bool:
    shape = dims(output) if output.get_partial_shape().rank.is_static else ()
    return len(shape) >= 2 and shape[-1] == hidden and None in shape
