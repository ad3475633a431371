"""Reads what stands between the projections: act(gate) * (up + offset), both clamped or neither.

How each act is written comes from ov_moe.kernels.activations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openvino as ov

from ov_moe.kernels.activations import ACTIVATIONS
from ov_moe.spec import Activation, ActivationKind

from .not_matched import NotMatched
from .walk import Walk, constant

_WRITTEN = {nodes: form.name for form in ACTIVATIONS.values() for nodes in form.written}
_TYPES = frozenset(nodes[0].split()[0] for nodes in _WRITTEN)
_UP_TYPES = frozenset({"Add", "Clamp", "MatMul", "Slice", "Split", "VariadicSplit"})
_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True, eq=False)
class Gated:
    """The operands of an activation, before any clamp, and its description."""

    gate: ov.Output
    up: ov.Output
    activation: Activation


def read_gated(walk: Walk, output: ov.Output) -> Gated:
    """Reads act(min(gate, limit)) * (clamp(up, -limit, limit) + offset), in either order of the product.

    Limit and offset are read from the graph and may be missing. The form with both is that of GPT-OSS.

    Args:
        walk: Gathers the nodes passed.
        output: What goes into the down projection.

    Raises:
        NotMatched: Naming the first node that is not part of this form.
    """
    product = walk.enter(output, "Multiply", "the product of gate and up")
    activated, other = _activated_first(product)
    kind, beta, clamped_gate = _activated(walk, activated)
    offset, clamped_up = _without_offset(walk, other)
    gate, gate_limit = _without_limit(walk, clamped_gate, both_sides=False)
    up, up_limit = _without_limit(walk, clamped_up, both_sides=True)
    if gate_limit != up_limit:
        raise NotMatched(f"multiplies gate clamped at {gate_limit} and up clamped at {up_limit}", product)
    return Gated(gate, up, Activation(kind, beta, gate_limit, offset))


def _activated_first(product: ov.Node) -> tuple[ov.Output, ov.Output]:
    """(activated gate, up); where no operand is an activation, up is the one that looks like it."""
    first, second = product.input_values()
    kinds = first.get_node().get_type_name(), second.get_node().get_type_name()
    swapped = kinds[0] not in _TYPES and (kinds[1] in _TYPES or kinds[0] in _UP_TYPES)
    return (second, first) if swapped else (first, second)


def _activated(walk: Walk, output: ov.Output) -> tuple[ActivationKind, float, ov.Output]:
    """(kind, beta, operand) of the activation of the gate."""
    for words, kind in _WRITTEN.items():
        if nodes := _spelled(output, words):
            for node in nodes:
                walk.enter(node.output(0), str(node.get_type_name()), "the activation of the gate")
            return kind, _beta(nodes[-1]), nodes[-1].input_value(0)
    wanted = ", ".join(sorted(_TYPES))
    raise NotMatched(f"stands where the activation of the gate should be one of {wanted}", output.get_node())


def _spelled(output: ov.Output, words: tuple[str, ...]) -> list[ov.Node]:
    """The nodes that ``words`` name, from the producer of ``output`` back along first inputs; none if one differs."""
    nodes: list[ov.Node] = []
    for word in words:
        node = output.get_node()
        kind, *detail = word.split()
        if node.get_type_name() != kind or _detail(node) != detail:
            return []
        nodes.append(node)
        output = node.input_value(0)
    return nodes


def _detail(node: ov.Node) -> list[str]:
    """What tells a node from others of its type: the mode of a Gelu, or one constant number as the second input."""
    mode = str(node.get_attributes().get("approximation_mode", "")).upper()
    number = _scalar(node.input_value(1)) if node.get_type_name() != "Swish" and node.get_input_size() == 2 else None
    return [mode] if mode else [] if number is None else [f"{number:.9g}"]


def _beta(node: ov.Node) -> float:
    """Of a Swish; 1 of all else."""
    if node.get_type_name() != "Swish" or node.get_input_size() == 1:
        return 1.0
    value = _scalar(node.input_value(1))
    if value is None:
        raise NotMatched("has a beta that is not one constant", node)
    return value


def _without_offset(walk: Walk, output: ov.Output) -> tuple[float, ov.Output]:
    """(offset, up before it is added); 0 where nothing is."""
    if output.get_node().get_type_name() != "Add":
        return 0.0, output
    other, offset = _with_number(walk.enter(output, "Add", "the offset of up"), "adds to up")
    return offset, other


def _without_limit(walk: Walk, output: ov.Output, *, both_sides: bool) -> tuple[ov.Output, float | None]:
    """(operand before the clamp, limit), None where there is no clamp."""
    node = output.get_node()
    if node.get_type_name() == "Minimum" and not both_sides:
        return _with_number(walk.enter(output, "Minimum", "the clamp of gate"), "clamps gate at")
    if node.get_type_name() != "Clamp":
        return output, None
    walk.enter(output, "Clamp", "a clamp")
    with np.errstate(over="ignore"):
        low, high = (float(np.float32(node.get_attributes()[name])) for name in ("min", "max"))
    if both_sides and low != -high:
        raise NotMatched(f"clamps up to [{low}, {high}], not from both sides alike", node)
    if not both_sides and low > _LOWEST:
        raise NotMatched(f"clamps gate to [{low}, {high}], not from above only", node)
    return node.input_value(0), high


def _with_number(node: ov.Node, doing: str) -> tuple[ov.Output, float]:
    """(operand, number) of a node with one constant number among its two operands."""
    first, second = node.input_values()
    for operand, other in ((first, second), (second, first)):
        if (number := _scalar(other)) is not None:
            return operand, number
    raise NotMatched(f"{doing} what is not one constant number", node)


def _scalar(output: ov.Output) -> float | None:
    """The number that a constant of one element holds."""
    values = constant(output)
    return float(values.reshape(-1)[0]) if values is not None and values.size == 1 else None
