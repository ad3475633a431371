"""Reads the sum at the end of an unrolled block: rows added at their tokens, and the zeros it starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openvino as ov

from ..not_matched import NotMatched
from ..walk import Walk, constant, dims, element_type, expect, expect_dims, expect_integers
from .rows import through_integers


@dataclass(frozen=True, eq=False)
class IndexAdd:
    """``base.index_add(0, index, updates)`` as exports of torch spell it.

    Attributes:
        base: f32 [T, H], what the rows are added to.
        index: Integers with one element a row, in front of all Converts and views.
        updates: f32 [rows, H].
    """

    base: ov.Output
    index: ov.Output
    updates: ov.Output


def read_index_add(walk: Walk, scatter: ov.Node, hidden: int) -> IndexAdd:
    """Reads a ScatterElementsUpdate that adds whole rows.

    Args:
        walk: Gathers the nodes passed, without the scatter and its base.
        scatter: ScatterElementsUpdate(base, Broadcast(index [rows, 1]), Broadcast(updates), axis 0, sum); both
            Broadcasts are to one row of H, which leaves the number of rows as it is.
        hidden: H.

    Raises:
        NotMatched: Naming the first node that is not part of this form.
    """
    attributes = scatter.get_attributes()
    if attributes.get("reduction") != "sum":
        raise NotMatched(f"has the reduction {attributes.get('reduction', 'none')} instead of sum", scatter)
    if not attributes["use_init_val"]:
        raise NotMatched("has use_init_val = false", scatter)
    expect_integers(scatter, 3, [[0], [-2]], "an axis")
    base, index, updates = scatter.input_values()[:3]
    expect_dims(base, (None, hidden), "what the rows are added to")
    column = _before_broadcast(walk, index, base, "the place of a row for all its columns")
    expect_dims(column, (None, 1), "the places of the rows")
    if updates.get_node().get_type_name() == "Broadcast":
        updates = _before_broadcast(walk, updates, base, "the rows")
    expect_dims(updates, (None, hidden), "the rows")
    return IndexAdd(base, through_integers(walk, column), updates)


def read_zeros(base: ov.Output, x: ov.Output) -> ov.Output | None:
    """The shape that the sum of the experts starts from, all zeros.

    Args:
        base: f32 [T, H]: a Constant, or a Broadcast of 0.
        x: [T, H].

    Returns:
        None where T is static and agrees with that of ``x``, else the shape: i64 [2].

    Raises:
        NotMatched: It is not zero, or the numbers of rows are known to differ.
    """
    node, rows = base.get_node(), dims(base)[0]
    if constant(base) is None:
        expect(base, "Broadcast", "the zeros that the experts are added to")
        value = constant(node.input_value(0))
    else:
        value = constant(base)
    if value is None or np.any(value):
        raise NotMatched("is not the zeros that the experts are added to", node)
    if rows is not None and rows == dims(x)[0]:
        return None
    if rows is not None and dims(x)[0] is not None:
        raise NotMatched(f"has {rows} rows for {dims(x)[0]} tokens", node)
    if node.get_type_name() != "Broadcast" or element_type(node.input_value(1)) != "i64":
        raise NotMatched("has a number of rows that cannot be traced to an i64 shape", node)
    return node.input_value(1)


def hidden_of(last: ov.Node) -> int:
    """H of the f32 [T, H] that a block gives."""
    shape = dims(last.output(0))
    if len(shape) != 2 or shape[1] is None or element_type(last.output(0)) != "f32":
        found = f"{element_type(last.output(0))} {last.output(0).get_partial_shape()}"
        raise NotMatched(f"gives {found}, not f32 [T, H] with a fixed H", last)
    return shape[1]


def expect_same_tokens(*inputs: ov.Output) -> None:
    """Raises ``NotMatched`` where static numbers of rows differ; the island needs all of them to be T."""
    known = {dims(value)[0]: value for value in inputs if dims(value)[0] is not None}
    if len(known) > 1:
        raise NotMatched(f"gives one of the unequal numbers of tokens {list(known)}", inputs[0].get_node())


def _before_broadcast(walk: Walk, output: ov.Output, base: ov.Output, role: str) -> ov.Output:
    """What a bidirectional Broadcast to the shape of one row of ``base`` repeats along the columns only."""
    node, width = walk.enter(output, "Broadcast", role), dims(base)[1]
    if node.get_attributes()["mode"] != "bidirectional":
        raise NotMatched(f"has the mode {node.get_attributes()['mode']} instead of bidirectional", node)
    target = node.input_value(1)
    value = constant(target)
    if value is None:
        _expect_shape_of_row(walk, target, base)
    elif value.reshape(-1).tolist() != [1, width]:
        raise NotMatched(f"has a target shape {value.tolist()} instead of [1, {width}]", node)
    return node.input_value(0)


def _expect_shape_of_row(walk: Walk, shape: ov.Output, base: ov.Output) -> None:
    """Raises unless this is ShapeOf(base[0:1]): [1, H]."""
    shape_of = expect(shape, "ShapeOf", "the shape of one row")
    row = expect(shape_of.input_value(0), "Slice", "the first row of the sum so far")
    if row.input_value(0) != base:
        raise NotMatched("does not cut the sum to which rows are added", row)
    expect_integers(row, 1, [[0, 0], [0]], "a start")
    expect_integers(row, 3, [[1, 1], [1]], "a step")
    if row.get_input_size() == 5:
        expect_integers(row, 4, [[0, 1], [0]], "axes")
    stop, width = constant(row.input_value(2)), dims(base)[1]
    if stop is None or stop.reshape(-1)[0] != 1 or dims(row.output(0))[1] != width:
        raise NotMatched(f"does not cut one row of {width}", row)
    if base.get_node().get_type_name() == "ScatterElementsUpdate":
        # It looks at the sum so far, so that it goes with it; zeros stay where they are.
        walk.enter(shape, "ShapeOf", "the shape of one row")
        walk.enter(shape_of.input_value(0), "Slice", "the first row of the sum so far")
