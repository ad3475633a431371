"""Reads how gate and up are taken out of the one output [E, T, 2I] that holds both."""

from __future__ import annotations

import openvino as ov

from ov_moe.spec import GateUpLayout

from ..not_matched import NotMatched
from ..walk import Walk, constant, dims, expect_integers

_LAST_AXIS = ([2], [-1])


def read_parts(walk: Walk, gate: ov.Output, up: ov.Output) -> tuple[ov.Output, GateUpLayout]:
    """(the output that gate and up are parts of, their layout in its last axis).

    Args:
        walk: Gathers the nodes passed.
        gate: Output of a Slice, a Split or a VariadicSplit.
        up: The same.

    Raises:
        NotMatched: They are parts of different outputs, or parts that no layout has.
    """
    source, gate_part = _part(walk, gate, "gate")
    other, up_part = _part(walk, up, "up")
    if source != other:
        raise NotMatched("takes up from another output than gate", up.get_node())
    both = dims(source)[-1]
    assert both is not None  # _part refuses
    if (gate_part, up_part) == (range(0, both, 2), range(1, both, 2)):
        return source, "interleaved"
    if both % 2 == 0 and (gate_part, up_part) == (range(both // 2), range(both // 2, both)):
        return source, "halves"
    parts = f"gate as {_text(gate_part)} and up as {_text(up_part)} of {both} features"
    raise NotMatched(f"takes {parts}, neither interleaved nor halves", up.get_node())


def _part(walk: Walk, output: ov.Output, name: str) -> tuple[ov.Output, range]:
    """(source, which of its last axis) of one part."""
    kind = output.get_node().get_type_name()
    if kind not in ("Slice", "Split", "VariadicSplit"):
        raise NotMatched(f"stands where {name} should be a Slice or a Split of both projections", output.get_node())
    node = walk.enter(output, kind, name)
    source = node.input_value(0)
    size = dims(source)[-1]
    if len(dims(source)) != 3 or size is None:
        raise NotMatched(f"takes {name} from {source.get_partial_shape()}, not [E, T, 2I]", node)
    if kind == "Slice":
        return source, _sliced(node, size)
    expect_integers(node, 1, _LAST_AXIS, "an axis")
    length = dims(output)[-1]
    starts = [dims(node.output(port))[-1] for port in range(output.get_index())]
    if length is None or None in starts:
        raise NotMatched("splits into parts of unknown size", node)
    start = sum(s for s in starts if s is not None)
    return source, range(start, start + length)


def _sliced(node: ov.Node, size: int) -> range:
    """What a Slice along the last axis takes; its bounds clip and wrap as Python's do."""
    if node.get_input_size() < 5:
        raise NotMatched("has no list of axes", node)
    expect_integers(node, 4, _LAST_AXIS, "a list of axes")
    bounds: list[int] = []
    for port, role in ((1, "start"), (2, "stop"), (3, "step")):
        values = constant(node.input_value(port))
        if values is None or values.size != 1:
            raise NotMatched(f"has a {role} that is not one constant", node)
        bounds.append(int(values.reshape(-1)[0]))
    if bounds[2] == 0:
        raise NotMatched("has a step of 0", node)
    return range(*slice(*bounds).indices(size))


def _text(part: range) -> str:
    return f"{part.start}:{part.stop}:{part.step}"
