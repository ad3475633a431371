"""How the T tokens stand in two axes, [E, B, S, H] or [E, T, 1, H]: what is known about either of them.

The number of elements leaves the second axis to the first, so that two outputs of the same T tokens with the
same first axis, or with the same second one, have both in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import openvino as ov
from openvino import opset13 as ops

from ..nodes import i64
from ..not_matched import NotMatched
from ..shape_items import Item, is_token_count, item
from ..walk import constant, dims

ALL: Item = ("all tokens",)


@dataclass(frozen=True, eq=False)
class TokenAxes:
    """The axes 1 and 2 of a rank-4 output; at least one is known.

    Attributes:
        first: What the first of them is; None for what the second leaves of T.
        second: The same of the second.
        source: The integer [1] that the known one (the first, where both are) is taken from; None where it is not
            computed.
    """

    first: Item | None
    second: Item | None
    source: ov.Output | None

    def agrees(self, other: TokenAxes) -> bool:
        """Whether another output of as many tokens has the same two axes."""
        pairs = (self.first, other.first), (self.second, other.second)
        return any(mine is not None and mine == others for mine, others in pairs)

    def shape(self, hidden: int) -> ov.Output:
        """i64 [3] to reshape [T, H] to: a constant, or a new node that reads nothing but ``source``."""
        known = [-1 if axis == ALL else axis for axis in (self.first, self.second)]
        if isinstance(known[0], int):
            return i64([known[0], 1 if known[0] == -1 else -1, hidden]).output(0)
        if isinstance(known[1], int):
            return i64([1 if known[1] == -1 else -1, known[1], hidden]).output(0)
        computed = ops.convert(self.source, "i64")
        if self.first is not None:
            return ops.concat([computed, i64([-1, hidden])], 0).output(0)
        return ops.concat([i64([-1]), computed, i64([hidden])], 0).output(0)


def token_axes(output: ov.Output, ids: ov.Output) -> TokenAxes:
    """Reads what gives the views [E, a, b, n] of [E, T, n] or [E, T] their axes a and b.

    Args:
        output: The end of the views, of rank 4.
        ids: Top-k ids [T, k].

    Raises:
        NotMatched: Nothing is known about either axis.
    """
    first, second = dims(output)[1:3]
    axes: list[Item | None] = [first, second]
    sources: list[ov.Output | None] = [None, None]
    node = output.get_node()
    while node.get_type_name() == "Unsqueeze":
        node = node.input_value(0).get_node()
    if node.get_type_name() == "Reshape":
        for place, (axis, source) in enumerate(_target(node, ids)[1:3]):
            if axes[place] is None:
                axes[place], sources[place] = axis, source
    for one, other in ((0, 1), (1, 0)):
        if axes[one] in (1, ALL) and axes[other] is None:
            axes[other] = ALL if axes[one] == 1 else 1
    if axes == [None, None]:
        raise NotMatched("splits the tokens into axes that cannot be traced", node)
    return TokenAxes(axes[0], axes[1], sources[1] if sources[0] is None else sources[0])


def _target(reshape: ov.Node, ids: ov.Output) -> list[tuple[Item | None, ov.Output | None]]:
    """(meaning, where it is computed) of each dimension a Reshape makes; meaning None where it is left to others."""
    special_zero, before = reshape.get_attributes()["special_zero"], dims(reshape.input_value(0))
    experts = dims(reshape.output(0))[0]

    def number(value: int, place: int) -> Item | None:
        if value == 0 and special_zero:
            # [E, T, n] or [E, T]; behind [E B, S, n] the axis would be S.
            return ALL if place == 1 and len(before) <= 3 and before[0] == experts else None
        return value if value > 0 else None

    entries: list[tuple[Item | None, ov.Output | None]] = []
    for part in _parts(reshape.input_value(1)):
        values = constant(part)
        if values is not None:
            start = len(entries)
            entries += [(number(int(v), start + i), None) for i, v in enumerate(values.reshape(-1))]
        elif dims(part) == (1,):
            found = item(part)
            entries.append((ALL, None) if is_token_count(found, ids) else (found, part))
        else:
            return []
    return entries


def _parts(shape: ov.Output) -> list[ov.Output]:
    concat = shape.get_node()
    return list(concat.input_values()) if concat.get_type_name() == "Concat" else [shape]
