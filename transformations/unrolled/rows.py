"""Rows of an unrolled block: views of them, gathers among them, and the integers that say which."""

from __future__ import annotations

import openvino as ov

from ..not_matched import NotMatched
from ..walk import INTEGER_TYPES, VIEWS, Walk, dims, element_type, expect, expect_dims, expect_integers


def rows_and_factors(weighted: ov.Node, hidden: int) -> tuple[ov.Output, ov.Output]:
    """(rows [rows, H], factors [rows, 1]) of the Multiply that weights the experts' outputs."""
    first, second = weighted.input_values()
    if dims(first)[-1:] == (1,) and dims(second)[-1:] != (1,):
        first, second = second, first
    expect_dims(first, (None, hidden), "the experts' outputs")
    expect_dims(second, (None, 1), "the factors of the rows")
    return first, second


def x_of_gather(walk: Walk, rows: ov.Output, hidden: int, role: str) -> tuple[ov.Output, ov.Output]:
    """(x f32 [T, H], tokens) of rows [rows, H] that a Gather takes from x, both in front of views."""
    expect_dims(rows, (None, hidden), role)
    gathered = walk.through_views(rows)
    expect(gathered, "Gather", role)
    expect_dims(gathered, (None, hidden), role)
    data, index = gathered_rows(walk, gathered, role)
    x = rows_behind(data, hidden, "x")
    if element_type(x) != "f32":
        raise NotMatched(f"gives x as {element_type(x)}, not f32", x.get_node())
    return x, index


def gathered_rows(walk: Walk, output: ov.Output, role: str) -> tuple[ov.Output, ov.Output]:
    """(data, index) of a Gather along axis 0, the index in front of Converts and views; output [rows, ...]."""
    node = walk.enter(output, "Gather", role)
    expect_integers(node, 2, [[0]], "an axis")
    if node.get_attributes()["batch_dims"] != 0:
        raise NotMatched("has batch_dims", node)
    expect_dims(node.input_value(1), (None,), "the index")
    return node.input_value(0), through_integers(walk, node.input_value(1))


def rows_behind(output: ov.Output, width: int, role: str) -> ov.Output:
    """The outermost [rows, width] that ``output`` is a view of; all have the same elements in the same order.

    The views are not gathered: they may be read elsewhere too, and stay where they are if they are.
    """
    found: ov.Output | None = None
    while not output.get_partial_shape().rank.is_dynamic:
        shape = dims(output)
        if len(shape) == 2 and shape[1] == width:
            found = output
        if output.get_node().get_type_name() not in VIEWS:
            break
        output = output.get_node().input_value(0)
    if found is None:
        raise NotMatched(f"stands where {role} should be a view of rows of {width}", output.get_node())
    return found


def through_integers(walk: Walk, output: ov.Output) -> ov.Output:
    """The output in front of views and of Converts from one integer type to another."""
    while (node := output.get_node()).get_type_name() in VIEWS or node.get_type_name() == "Convert":
        if element_type(output) not in INTEGER_TYPES:
            raise NotMatched(f"gives indices of type {element_type(output)}, not i32 or i64", node)
        walk.enter(output, str(node.get_type_name()), "an index")
        output = node.input_value(0)
    if element_type(output) not in INTEGER_TYPES:
        raise NotMatched(f"gives indices of type {element_type(output)}, not i32 or i64", output.get_node())
    return output
