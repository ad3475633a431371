"""Reads a projection of rows sorted by expert: a Slice and a MatMul for each expert, concatenated again."""

from __future__ import annotations

from dataclasses import dataclass

import openvino as ov

from ..not_matched import NotMatched
from ..projections import read_projection
from ..unrolled.weights import MatrixWeights, expect_matrix, read_matrix
from ..walk import Walk, expect_dims, expect_integers
from .counts import Bounds


@dataclass(frozen=True, eq=False)
class SlicedProjection:
    """y [R, N] of rows x [R, K], the rows of expert e by matrix e.

    Attributes:
        rows: x.
        parts: The matrices, in the order of the experts.
        concat: The node that gives y.
    """

    rows: ov.Output
    parts: list[MatrixWeights]
    concat: ov.Node


def read_sliced_projection(walk: Walk, output: ov.Output, bounds: Bounds, role: str) -> SlicedProjection:
    """Reads Concat over experts of MatMul(Slice(rows, end of e-1, end of e), matrix e).

    Args:
        walk: Gathers the nodes passed.
        output: [R, N].
        bounds: Knows the ends of the experts' rows.
        role: Of the projection, e.g. ``the down projection``.

    Raises:
        NotMatched: Naming the first node that is not part of this form, or the first expert whose rows are not
            those between two ends, or whose matrix has another shape than that of expert 0.
    """
    concat = walk.enter(output, "Concat", f"{role} of all experts")
    if concat.get_attributes()["axis"] not in (0, -2):
        raise NotMatched(f"has the axis {concat.get_attributes()['axis']} instead of 0", concat)
    rows: ov.Output | None = None
    parts: list[MatrixWeights] = []
    for expert, one in enumerate(concat.input_values()):
        sliced, part = read_projection(walk, one, f"{role} of expert {expert}", read_matrix)
        data = _slice_of(walk, sliced, bounds, expert)
        rows = data if rows is None else rows
        if data != rows:
            raise NotMatched(f"cuts expert {expert} from other rows than expert 0", sliced.get_node())
        parts.append(part)
        expect_matrix(part, parts[0].spec.n, parts[0].spec.k, f"{role} of expert {expert}")
    if rows is None:
        raise NotMatched("concatenates nothing", concat)
    expect_dims(rows, (None, parts[0].spec.k), f"the input of {role}")
    return SlicedProjection(rows, parts, concat)


def _slice_of(walk: Walk, output: ov.Output, bounds: Bounds, expert: int) -> ov.Output:
    """What the rows of ``expert`` are cut from."""
    node = walk.enter(output, "Slice", f"the rows of expert {expert}")
    expect_integers(node, 3, [[1]], "a step")
    if node.get_input_size() != 5:
        raise NotMatched("has no axes", node)
    expect_integers(node, 4, [[0], [-2]], "axes")
    start, stop = (bounds.experts_before(node.input_value(port)) for port in (1, 2))
    if (start, stop) != (expert, expert + 1):
        raise NotMatched(f"cuts the rows of experts {start} to {stop - 1} for expert {expert}", node)
    return node.input_value(0)
