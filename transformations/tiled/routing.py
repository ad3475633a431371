"""Reads the routing of a block: from the dense [E, T, 1] factors back to the top-k ids and weights.

Whatever made those, softmax, sigmoid with a bias or a sparse mixer, stays as it is and is never looked at.
"""

from __future__ import annotations

import numpy as np
import openvino as ov

from ..block import Routing
from ..not_matched import NotMatched
from ..shape_items import dimension, is_token_count, item
from ..walk import (
    INTEGER_TYPES,
    Walk,
    constant,
    dims,
    element_type,
    expect,
    expect_dims,
    expect_integers,
    through_converts,
)


def read_routing(walk: Walk, factors: ov.Output, experts: int) -> Routing:
    """Reads Broadcast(0) -> ScatterElementsUpdate(ids, weights) -> Transpose -> views.

    Args:
        walk: Gathers the nodes passed.
        factors: f32 [E, T, 1] or, with T in two axes, [E, a, b, 1]; zero where an expert does not see a token.
        experts: E.

    Returns:
        The ids and weights that were scattered.

    Raises:
        NotMatched: Naming the first node that is not part of this form.
    """
    tokens = (None, None) if len(dims(factors)) == 4 else (None,)
    expect_dims(factors, (experts, *tokens, 1), "the routing factors")
    by_expert = walk.through_views(factors)
    transpose = walk.enter(by_expert, "Transpose", "the swap of tokens and experts")
    expect_integers(transpose, 1, [[1, 0]], "an order")
    expect_dims(by_expert, (experts, None), "the routing by expert")
    scatter = walk.enter(transpose.input_value(0), "ScatterElementsUpdate", "the source of the dense routing")
    if str(scatter.get_attributes().get("reduction", "none")) != "none":
        raise NotMatched(f"has the reduction {scatter.get_attributes()['reduction']} instead of none", scatter)
    expect_integers(scatter, 3, [[1], [-1]], "an axis")
    zeros, ids, updates = scatter.input_values()[:3]
    top_k = _top_k(ids)
    _expect_zeros(zeros, ids, experts)
    weights = _before_identity_slice(walk, updates, ids)
    expect_dims(weights, (dims(ids)[0], top_k), "the top-k weights")
    if element_type(weights) != "f32":
        raise NotMatched(f"gives top-k weights of type {element_type(weights)}, not f32", weights.get_node())
    return Routing(ids, weights)


def _top_k(ids: ov.Output) -> int:
    shape = dims(ids)
    if element_type(ids) not in INTEGER_TYPES:
        raise NotMatched(f"gives expert ids of type {element_type(ids)}, not i32 or i64", ids.get_node())
    if len(shape) != 2 or shape[1] is None:
        raise NotMatched("gives expert ids that are not [T, k] with a fixed k", ids.get_node())
    return shape[1]


def _expect_zeros(zeros: ov.Output, ids: ov.Output, experts: int) -> None:
    """[T, E] zeros with as many rows as there are ids."""
    expect_dims(zeros, (None, experts), "what the weights are scattered into")
    node = zeros.get_node()
    if constant(zeros) is not None:
        value, rows_known = constant(zeros), dims(zeros)[0] == dims(ids)[0]
    else:
        expect(zeros, "Broadcast", "what the weights are scattered into")
        value, rows_known = constant(node.input_value(0)), _rows_of_ids(node, ids)
    if value is None or np.any(value):
        raise NotMatched("is not zero where no expert is chosen", node)
    if not rows_known:
        raise NotMatched("has a number of rows that cannot be traced to the expert ids", node)


def _rows_of_ids(broadcast: ov.Node, ids: ov.Output) -> bool:
    """Whether the target shape is [rows of the ids, E], or the row counts agree statically."""
    rows = dims(broadcast.output(0))[0]
    if rows is not None:
        return rows == dims(ids)[0]
    shape = broadcast.input_value(1).get_node()
    if shape.get_type_name() == "ShapeOf":
        return is_token_count(dimension(shape.input_value(0), 0), ids)
    return bool(shape.get_type_name() == "Concat") and is_token_count(item(shape.input_value(0)), ids)


def _before_identity_slice(walk: Walk, updates: ov.Output, ids: ov.Output) -> ov.Output:
    """The updates, or what they are sliced from when the slice [0 : ShapeOf(ids)] takes all of it."""
    if updates.get_node().get_type_name() != "Slice":
        return updates
    node = walk.enter(updates, "Slice", "the slice of the top-k weights")
    expect_integers(node, 1, [[0, 0]], "a start")
    expect_integers(node, 3, [[1, 1]], "a step")
    if node.get_input_size() > 4:
        expect_integers(node, 4, [[0, 1], [0, -1], [-2, -1]], "a list of axes")
    if not _is_shape_of(node.input_value(2), ids):
        raise NotMatched("does not stop at the shape of the expert ids", node)
    return node.input_value(0)


def _is_shape_of(shape: ov.Output, ids: ov.Output) -> bool:
    """Whether ``shape`` is ShapeOf the ids, at either side of a Convert of them, or their static shape."""
    value = constant(shape)
    if value is not None:
        return tuple(value.reshape(-1).tolist()) == dims(ids)
    node = through_converts(shape).get_node()
    return bool(node.get_type_name() == "ShapeOf" and through_converts(node.input_value(0)) == through_converts(ids))
