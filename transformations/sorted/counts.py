"""Reads where each expert's rows begin and end among rows that are sorted by expert."""

from __future__ import annotations

import numpy as np
import openvino as ov

from ..not_matched import NotMatched
from ..walk import INTEGER_TYPES, Walk, constant, dims, element_type, expect_dims, expect_integers, through_converts


class Bounds:
    """Running sums of the number of rows of each expert, as the graph computes them.

    Attributes:
        counts: Integers [E], the output that all sums seen so far add up; None before the first.
    """

    def __init__(self, walk: Walk) -> None:
        self.counts: ov.Output | None = None
        self._walk = walk
        self._experts: dict[str, int] = {}

    def experts_before(self, output: ov.Output) -> int:
        """m where ``output`` is the number of rows of experts 0 to m-1: count 0 + ... + count m-1.

        Raises:
            NotMatched: It is not such a sum, or one of other counts than those before.
        """
        value = constant(output)
        if value is not None:
            if value.reshape(-1).tolist() != [0]:
                raise NotMatched(f"is a fixed bound {value.tolist()} between experts", output.get_node())
            return 0
        output = self._walk.through_views(output)
        name = str(output.get_node().get_name())
        if name not in self._experts:
            self._experts[name] = self._read(output)
        return self._experts[name]

    def _read(self, output: ov.Output) -> int:
        node = output.get_node()
        if node.get_type_name() == "Gather":
            if self._expert(output) != 0:
                raise NotMatched("is a bound that does not count the rows of expert 0", node)
            return 1
        add = self._walk.enter(output, "Add", "the end of an expert's rows")
        terms = [self._walk.through_views(value) for value in add.input_values()]
        counts = [term for term in terms if term.get_node().get_type_name() == "Gather"]
        # Of two counts one is that of expert 0 and stands for the sum before.
        own = max(counts, key=self._expert, default=None)
        if own is None:
            raise NotMatched("does not add the number of an expert's rows", add)
        expert, rest = self._expert(own), terms[1] if terms[0] == own else terms[0]
        # Slices come in order, so that the end of the rows before is known by now; nothing recurses E deep.
        before = self._experts.get(str(rest.get_node().get_name()))
        if before is None and rest in counts and self._expert(rest) == 0:
            before = 1
        if before != expert:
            raise NotMatched(f"does not add the rows of expert {expert} to those of the experts before it", add)
        return expert + 1

    def _expert(self, output: ov.Output) -> int:
        """e of a Gather that takes the count of expert e."""
        gather = self._walk.enter(output, "Gather", "the number of an expert's rows")
        expect_integers(gather, 2, [[0]], "an axis")
        index = constant(gather.input_value(1))
        if index is None or index.size != 1:
            raise NotMatched("does not choose one expert by a constant", gather)
        if self.counts is None:
            self.counts = gather.input_value(0)
        elif gather.input_value(0) != self.counts:
            raise NotMatched("reads other counts than the bounds before", gather)
        return int(index.reshape(-1)[0])


def read_counts(walk: Walk, counts: ov.Output, experts: int, ids: ov.Output) -> None:
    """Reads ReduceSum(ScatterElementsUpdate(0 [T, E], ids, 1, axis 1), axis 0).

    Args:
        walk: Gathers the nodes passed.
        counts: Integers [E].
        experts: E.
        ids: [T, k]; the experts of a token must be distinct.

    Raises:
        NotMatched: Naming the first node that is not part of this form.
    """
    total = walk.enter(counts, "ReduceSum", "the count of each expert's rows")
    expect_integers(total, 1, [[0], [-2]], "axes")
    expect_dims(counts, (experts,), "the count of each expert's rows")
    if element_type(counts) not in INTEGER_TYPES:
        raise NotMatched(f"counts rows in {element_type(counts)}, not i32 or i64", total)
    marks = total.input_value(0)
    while marks.get_node().get_type_name() == "Convert":
        marks = walk.enter(marks, "Convert", "the marks of chosen experts").input_value(0)
    scatter = walk.enter(marks, "ScatterElementsUpdate", "the marks of chosen experts")
    if scatter.get_attributes().get("reduction") != "none":
        raise NotMatched(f"has the reduction {scatter.get_attributes()['reduction']} instead of none", scatter)
    expect_integers(scatter, 3, [[1], [-1]], "an axis")
    expect_dims(marks, (None, experts), "the marks of chosen experts")
    for port, number in ((0, 0), (2, 1)):
        if not _is_all(scatter.input_value(port), number):
            raise NotMatched(f"does not write ones into zeros (input {port})", scatter)
    if through_converts(scatter.input_value(1)) != through_converts(ids):
        raise NotMatched("counts other ids than those that are sorted", scatter)
    if dims(scatter.input_value(1)) != dims(ids):
        raise NotMatched("counts ids of another shape than those that are sorted", scatter)


def _is_all(output: ov.Output, number: int) -> bool:
    """Whether every element is ``number``: a constant, or a broadcast one, also converted or cut."""
    while constant(output) is None:
        node = output.get_node()
        if node.get_type_name() not in ("Broadcast", "Convert", "Slice"):
            return False
        output = node.input_value(0)
    value = constant(output)
    return value is not None and bool(np.all(value == number))
