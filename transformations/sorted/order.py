"""Reads the sort of (token, slot) pairs by expert and the two things that follow it: tokens and weights."""

from __future__ import annotations

import openvino as ov

from ..not_matched import NotMatched
from ..unrolled.rows import gathered_rows, rows_behind, through_integers
from ..walk import INTEGER_TYPES, VIEWS, Walk, constant, dims, element_type, expect_dims

_SORTED = {"mode": "min", "sort": "value"}


def read_sorted_tokens(walk: Walk, token: ov.Output) -> tuple[ov.Output, ov.Output, int]:
    """Reads Divide(TopK(flat ids, all, ascending) indices, k).

    Pairs of one expert come in any order; that changes nothing, because tokens and weights follow the same.

    Args:
        walk: Gathers the nodes passed.
        token: Integers [T * k], the token of each sorted pair.

    Returns:
        (order [T * k], ids [T, k], k): pair ``order[i]`` = token * k + slot stands at place i.

    Raises:
        NotMatched: Naming the first node that is not part of this form.
    """
    divide = walk.enter(token, "Divide", "the token of a pair, pair / k")
    top_k = constant(divide.input_value(1))
    if top_k is None or top_k.size != 1 or element_type(token) not in INTEGER_TYPES:
        raise NotMatched("does not divide integers by a constant k", divide)
    order = through_integers(walk, divide.input_value(0))
    sort = walk.enter(order, "TopK", "the sort of pairs by expert")
    attributes = sort.get_attributes()
    for name, wanted in _SORTED.items():
        if attributes[name] != wanted:
            raise NotMatched(f"has the {name} {attributes[name]} instead of {wanted}", sort)
    flat = sort.input_value(0)
    expect_dims(flat, (None,), "the ids of all pairs")
    if order.get_index() != 1 or not _is_size_of(walk, sort.input_value(1), flat):
        raise NotMatched("does not give the order of all pairs", sort)
    ids = rows_behind(flat, int(top_k.reshape(-1)[0]), "the ids of all pairs")
    if element_type(ids) not in INTEGER_TYPES:
        raise NotMatched(f"sorts ids of type {element_type(ids)}, not i32 or i64", sort)
    return order, ids, int(top_k.reshape(-1)[0])


def read_sorted_weights(walk: Walk, factors: ov.Output, order: ov.Output, top_k: int) -> ov.Output:
    """The weights [T, k] that ``factors`` [T * k, 1] are in the order of the sorted pairs."""
    expect_dims(factors, (None, 1), "the factors of the rows")
    gathered = walk.through_views(factors)
    flat, place = gathered_rows(walk, gathered, "the choice of the rows' factors")
    expect_dims(flat, (None,), "the weights of all pairs")
    if place != order:
        raise NotMatched("does not put the weights into the order of the sorted pairs", gathered.get_node())
    weights = rows_behind(flat, top_k, "the source of the factors")
    if element_type(weights) != "f32":
        raise NotMatched(f"gives top-k weights of type {element_type(weights)}, not f32", weights.get_node())
    return weights


def _is_size_of(walk: Walk, size: ov.Output, flat: ov.Output) -> bool:
    """Whether ``size`` is the number of elements of the vector ``flat``."""
    value = constant(size)
    if value is not None:
        return (*value.reshape(-1).tolist(),) == dims(flat)
    while (node := size.get_node()).get_type_name() in VIEWS or node.get_type_name() == "Convert":
        walk.enter(size, str(node.get_type_name()), "the number of pairs")
        size = node.input_value(0)
    return bool(node.get_type_name() == "ShapeOf" and node.input_value(0) == flat)
