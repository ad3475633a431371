"""Where in a model experts may stand one by one: what is skipped with a reason, not in silence.

A region is a chain of ScatterElementsUpdates, each adding to the one before, in which a row of updates comes
from a MatMul with constant [N, K] weights and its place from a OneHot or a TopK. It is named by the last of
the chain.
"""

from __future__ import annotations

from collections.abc import Iterator

import openvino as ov

from ..regions import WEIGHT_CHAIN, has_weights

BEHIND_UPDATES = frozenset(
    {"Add", "Broadcast", "Concat", "Convert", "Multiply", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)
BEHIND_PLACES = frozenset(
    {"Add", "Broadcast", "Convert", "Divide", "FloorMod", "Gather", "Mod", "Multiply", "NonZero", "Reshape", "Split"}
    | {"Squeeze", "Subtract", "Transpose", "Unsqueeze"}
)
SCATTER = "ScatterElementsUpdate"


def scatter_regions(model: ov.Model) -> list[ov.Node]:
    """The last scatter of each region, in the order of the model."""
    ends = (node for node in model.get_ordered_ops() if node.get_type_name() == SCATTER and not _continues(node))
    return [node for node in ends if any(_adds_experts(scatter) for scatter in chain(node))]


def chain(last: ov.Node) -> Iterator[ov.Node]:
    """The scatters that add to each other, from the last one back to the first."""
    node = last
    while node.get_type_name() == SCATTER:
        yield node
        node = node.input_value(0).get_node()


def has_sorted_rows(last: ov.Node) -> bool:
    """Whether the rows of several experts are concatenated before they are scattered."""
    return any(node.get_type_name() == "Concat" for node in _behind(last.input_value(2), BEHIND_UPDATES))


def _continues(scatter: ov.Node) -> bool:
    targets = scatter.output(0).get_target_inputs()
    return any(t.get_index() == 0 and t.get_node().get_type_name() == SCATTER for t in targets)


def _adds_experts(scatter: ov.Node) -> bool:
    routed = any(n.get_type_name() in ("OneHot", "TopK") for n in _behind(scatter.input_value(1), BEHIND_PLACES))
    return routed and any(_has_matrix(n) for n in _behind(scatter.input_value(2), BEHIND_UPDATES))


def _has_matrix(node: ov.Node) -> bool:
    return node.get_type_name() == "MatMul" and has_weights(node, 2, WEIGHT_CHAIN)


def _behind(output: ov.Output, through: frozenset[str]) -> Iterator[ov.Node]:
    """Producers of ``output``, nearest first; beyond a node only where its type is one of ``through``."""
    queue, seen = [output.get_node()], {output.get_node().get_name()}
    for node in queue:
        yield node
        if node.get_type_name() in through:
            for value in node.input_values():
                if value.get_node().get_name() not in seen:
                    seen.add(value.get_node().get_name())
                    queue.append(value.get_node())
