"""Reads how an unrolled expert picks its tokens: OneHot, NonZero, and the place of a weight in the flat top-k."""

from __future__ import annotations

from dataclasses import dataclass

import openvino as ov

from ..not_matched import NotMatched
from ..walk import INTEGER_TYPES, Walk, constant, dims, element_type, expect_dims, expect_integers
from .rows import gathered_rows, rows_behind, through_integers


@dataclass(frozen=True, eq=False)
class Selection:
    """The (slot, token) pairs of one expert: ``torch.where(mask[expert])``.

    Attributes:
        expert: Its index along the first axis of ``mask``.
        mask: Integers [E, k, T], not zero where a slot of a token chose an expert.
        split: Cuts the pairs [2, rows] into slots (output 0) and tokens (output 1).
    """

    expert: int
    mask: ov.Output
    split: ov.Node

    @property
    def slots(self) -> ov.Output:
        """[1, rows]."""
        return self.split.output(0)

    @property
    def tokens(self) -> ov.Output:
        """[1, rows]."""
        return self.split.output(1)


def read_selection(walk: Walk, tokens: ov.Output) -> Selection:
    """Reads Gather(mask, expert) -> NonZero -> Split, whose second output is ``tokens``."""
    split = walk.enter(tokens, "Split", "the cut of (slot, token) pairs")
    expect_integers(split, 1, [[0], [-2]], "an axis")
    if tokens.get_index() != 1 or split.get_output_size() != 2:
        raise NotMatched("does not give the tokens as the second of two outputs", split)
    nonzero = walk.enter(split.input_value(0), "NonZero", "the search for an expert's tokens")
    choice = walk.enter(nonzero.input_value(0), "Gather", "the choice of an expert")
    expect_integers(choice, 2, [[0]], "an axis")
    index = constant(choice.input_value(1))
    if index is None or index.size != 1:
        raise NotMatched("does not choose one expert by a constant", choice)
    if len(dims(nonzero.input_value(0))) != 2:
        raise NotMatched("does not give the [k, T] mask of one expert", choice)
    return Selection(int(index.reshape(-1)[0]), choice.input_value(0), split)


def read_mask(walk: Walk, mask: ov.Output) -> tuple[ov.Output, int]:
    """(ids [T, k], E) of Transpose(OneHot(ids)) [E, k, T].

    Raises:
        NotMatched: E or k is not static, or ``mask`` is anything else than 1 where ids[t, s] = e, else 0.
    """
    transpose = walk.enter(mask, "Transpose", "the mask by expert")
    expect_integers(transpose, 1, [[2, 1, 0]], "an order")
    one_hot = walk.enter(transpose.input_value(0), "OneHot", "the mask of the chosen experts")
    if one_hot.get_attributes()["axis"] not in (2, -1):
        raise NotMatched(f"has the axis {one_hot.get_attributes()['axis']} instead of 2", one_hot)
    ids = one_hot.input_value(0)
    experts = constant(one_hot.input_value(1))
    if element_type(mask) not in INTEGER_TYPES:
        raise NotMatched(f"gives a mask of type {element_type(mask)}, not i32 or i64", one_hot)
    expect_integers(one_hot, 2, [[1]], "a value for chosen experts")
    expect_integers(one_hot, 3, [[0]], "a value for other experts")
    if element_type(ids) not in INTEGER_TYPES:
        raise NotMatched(f"reads expert ids of type {element_type(ids)}, not i32 or i64", one_hot)
    if experts is None or len(dims(ids)) != 2 or dims(ids)[1] is None:
        raise NotMatched("does not read [T, k] ids of a fixed number of experts with a fixed k", one_hot)
    return ids, int(experts.reshape(-1)[0])


def read_factors(walk: Walk, factors: ov.Output, selection: Selection, top_k: int) -> ov.Output:
    """The top-k weights [T, k] of which ``factors`` [rows, 1] are those at the selected (token, slot) pairs.

    Read is Gather(weights as [T * k, 1], slot + token * k) with a Reshape to [rows, 1] behind it.
    """
    expect_dims(factors, (None, 1), "the factors of the rows")
    if factors.get_node().get_type_name() == "Reshape":
        # From [rows, columns] to [rows, 1]: columns can only be 1, whatever computed them.
        reshape = walk.enter(factors, "Reshape", "the factors of the rows")
        factors = reshape.input_value(0)
        if dims(factors)[1:] != (1,):
            expect_integers(reshape, 1, [[0, 1]], "a shape")
            if not reshape.get_attributes()["special_zero"]:
                raise NotMatched("has special_zero = false", reshape)
    flat, place = gathered_rows(walk, factors, "the choice of the rows' factors")
    if len(dims(flat)) != 2:
        raise NotMatched("does not gather from [T * k, 1]", factors.get_node())
    _expect_place(walk, place, selection, top_k)
    weights = rows_behind(flat, top_k, "the source of the factors")
    if element_type(weights) != "f32":
        raise NotMatched(f"gives top-k weights of type {element_type(weights)}, not f32", weights.get_node())
    return weights


def _expect_place(walk: Walk, place: ov.Output, selection: Selection, top_k: int) -> None:
    """Raises unless ``place`` is slot + token * k."""
    add = walk.enter(place, "Add", "the place of a weight, slot + token * k")
    expect_dims(add.output(0), (None,), "the place of a weight, slot + token * k")
    first, second = (through_integers(walk, value) for value in add.input_values())
    slot, row = (second, first) if first.get_node().get_type_name() == "Multiply" else (first, second)
    if slot != selection.slots:
        raise NotMatched("does not add the slots of the same tokens", add)
    multiply = walk.enter(row, "Multiply", "token * k")
    a, b = multiply.input_values()
    token, width = (b, a) if _is_width(a, top_k) else (a, b)
    if not _is_width(width, top_k):
        raise NotMatched(f"does not multiply by k = {top_k}", multiply)
    if through_integers(walk, token) != selection.tokens:
        raise NotMatched("does not multiply the tokens of the same rows", multiply)


def _is_width(output: ov.Output, top_k: int) -> bool:
    """Whether this is k: a constant, or the second of the cut dimensions of something [T, k, ...]."""
    value = constant(output)
    if value is not None:
        return bool(value.reshape(-1).tolist() == [top_k])
    split = output.get_node()
    if split.get_type_name() != "Split" or output.get_index() != 1:
        return False
    shape_of = split.input_value(0).get_node()
    if shape_of.get_type_name() != "ShapeOf":
        return False
    shape = dims(shape_of.input_value(0))
    return bool(len(shape) == split.get_output_size() and shape[1] == top_k)
