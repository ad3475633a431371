"""Where in a model a Mixture-of-Experts block may be: what is skipped with a reason, not in silence.

A region is a batched MatMul with constant [E, N, K] weights whose result meets, before the next MatMul, a
factor that comes from a TopK or a ScatterElementsUpdate. It is named by the ReduceSum behind that meeting,
else by the TopK.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import openvino as ov

from .block import MoEBlock, Skipped
from .not_matched import NotMatched

WEIGHT_CHAIN = frozenset({"Convert", "Multiply", "Subtract", "Reshape", "Gather"})
# What may stand between a constant and a MatMul, read or not: what is not is then skipped with a reason.
BEFORE_EXPERTS = WEIGHT_CHAIN | {"Slice", "Split", "Transpose", "VariadicSplit"}
AFTER_DOWN = frozenset({"Add", "Convert", "Multiply", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
BEHIND_FACTORS = AFTER_DOWN | {
    "Broadcast",
    "Divide",
    "Equal",
    "GatherElements",
    "OneHot",
    "ReduceSum",
    "ScatterElementsUpdate",
    "Select",
    "Slice",
    "Softmax",
}
ROUTERS = ("TopK", "ScatterElementsUpdate")


def regions(model: ov.Model) -> list[ov.Node]:
    """The last node of each region (a ReduceSum, else a TopK or a scatter), in the order of the model."""
    found: dict[str, ov.Node] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and _has_expert_weights(node):
            for last in _last_nodes(node):
                found.setdefault(last.get_name(), last)
    return list(found.values())


def match_each(lasts: Iterable[ov.Node], match: Callable[[ov.Node], MoEBlock]) -> tuple[list[MoEBlock], list[Skipped]]:
    """(blocks, what was skipped): each region through ``match``, its ``NotMatched`` as the reason."""
    blocks: list[MoEBlock] = []
    skipped: list[Skipped] = []
    for last in lasts:
        try:
            blocks.append(match(last))
        except NotMatched as reason:
            skipped.append(Skipped(str(last.get_friendly_name()), str(reason)))
    return blocks, skipped


def has_fused_gate_up(last: ov.Node) -> bool:
    """Whether one MatMul stands before the down projection of a region, for gate and up together.

    Args:
        last: A node that ``regions`` gave.
    """
    down = next((n for n in _upstream(last) if n.get_type_name() == "MatMul" and _has_expert_weights(n)), None)
    if down is None:
        return False
    return len([n for n in _upstream(down, data_only=True) if n.get_type_name() == "MatMul"]) == 1


def _has_expert_weights(matmul: ov.Node) -> bool:
    return has_weights(matmul, 3, BEFORE_EXPERTS)


def has_weights(matmul: ov.Node, rank: int, through: frozenset[str]) -> bool:
    """Whether a MatMul's weights are static, of a rank, and a Constant behind nodes of some types."""
    weights = matmul.input_value(1)
    shape = weights.get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != rank or shape.is_dynamic:
        return False
    node = weights.get_node()
    while node.get_type_name() in through:
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def _last_nodes(matmul: ov.Node) -> Iterator[ov.Node]:
    """What ends the region of a down projection; nothing for a gate or an up projection."""
    for node in _downstream(matmul):
        if node.get_type_name() == "Multiply" and (router := _router(node)) is not None:
            sums = (n for n in _downstream(node) if n.get_type_name() == "ReduceSum")
            yield next(sums, router)
            return


def _downstream(start: ov.Node) -> Iterator[ov.Node]:
    """Consumers, nearest first, through what may follow a down projection; ends at any other type."""
    queue, seen = deque([start]), {start.get_name()}
    while queue:
        for output in queue.popleft().outputs():
            for target in output.get_target_inputs():
                node = target.get_node()
                if node.get_name() in seen:
                    continue
                seen.add(node.get_name())
                yield node
                if node.get_type_name() in AFTER_DOWN:
                    queue.append(node)


def _upstream(start: ov.Node, data_only: bool = False) -> Iterator[ov.Node]:
    """Producers, nearest first; ends behind a MatMul and at the Tile of x. ``data_only``: of its first input."""
    queue = deque([v.get_node() for v in start.input_values()[: 1 if data_only else None]])
    seen: set[str] = set()
    while queue:
        node = queue.popleft()
        if node.get_name() in seen or node.get_type_name() == "Tile":
            continue
        seen.add(node.get_name())
        yield node
        if node.get_type_name() != "MatMul":
            queue.extend(v.get_node() for v in node.input_values())


def _router(multiply: ov.Node) -> ov.Node | None:
    """The TopK behind a factor of ``multiply``, else the scatter, else nothing."""
    queue, seen = deque([multiply]), {multiply.get_name()}
    found: dict[str, ov.Node] = {}
    while queue:
        for value in queue.popleft().input_values():
            node = value.get_node()
            if node.get_name() in seen:
                continue
            seen.add(node.get_name())
            if node.get_type_name() in ROUTERS:
                found.setdefault(node.get_type_name(), node)
            if node.get_type_name() in BEHIND_FACTORS:
                queue.append(node)
    return next((found[kind] for kind in ROUTERS if kind in found), None)
