"""Toy: every expert computes every token, and the routing is a sum of one-hot rows in place of a scatter.

x [T, H] -> Unsqueeze -> Broadcast [E, T, H] -> MatMul gate, up, down of all experts -> [E, T, H]
OneHot(ids) [T, k, E] * weights [T, k, 1] -> ReduceSum [T, E] -> Transpose -> Unsqueeze [E, T, 1]
Multiply of both -> ReduceSum(axis 0) [T, H]
"""

from __future__ import annotations

import openvino as ov

from ..block import Experts, MoEBlock, Routing, Skipped, block_at
from ..not_matched import NotMatched
from ..projections import read_separate
from ..regions import match_each, regions
from ..walk import Walk, constant, dims, element_type, expect_dims, expect_integers
from ..weights import read_weights
from .expert_sum import expect_size, read_expert_sum


def find(model: ov.Model) -> tuple[list[MoEBlock], list[Skipped]]:
    """Finds the blocks of this family, as every family's ``find`` does."""
    return match_each((last for last in regions(model) if _sums_one_hots(last)), match)


def match(last: ov.Node) -> MoEBlock:
    """Reads the block that ends in the ReduceSum ``last``; raises ``NotMatched``."""
    walk = Walk()
    total = read_expert_sum(walk, last)
    repeated, (gate, up, down), activation = read_separate(walk, total.results, read_weights)
    expect_dims(repeated, (total.experts, None, total.hidden), "the input of the experts")
    x = walk.through_views(walk.enter(repeated, "Broadcast", "x for all experts").input_value(0))
    expect_dims(x, (None, total.hidden), "x")
    expect_size(gate, total.experts, gate.spec.n, total.hidden)
    expect_size(up, total.experts, gate.spec.n, total.hidden)
    expect_size(down, total.experts, total.hidden, gate.spec.n)
    routing = _routing(walk, total.factors, total.experts)
    walk.expect_closed(last)
    return block_at(last, x, routing, Experts(gate, up, down, activation), None)


def _routing(walk: Walk, factors: ov.Output, experts: int) -> Routing:
    by_expert = walk.through_views(factors)
    transpose = walk.enter(by_expert, "Transpose", "the swap of tokens and experts")
    expect_integers(transpose, 1, [[1, 0]], "an order")
    summed = walk.enter(transpose.input_value(0), "ReduceSum", "the sum over slots")
    expect_integers(summed, 1, [[1], [-2]], "axes")
    product = walk.enter(summed.input_value(0), "Multiply", "the weighted one-hot rows")
    one_hot = walk.enter(product.input_value(0), "OneHot", "the one-hot rows")
    depth = constant(one_hot.input_value(1))
    if depth is None or depth.reshape(-1).tolist() != [experts]:
        raise NotMatched(f"has a depth that is not {experts}", one_hot)
    for port, value in ((2, 1), (3, 0)):
        found = constant(one_hot.input_value(port))
        if found is None or found.reshape(-1).tolist() != [value]:
            raise NotMatched(f"has another value than {value} at input {port}", one_hot)
    ids, weights = one_hot.input_value(0), walk.through_views(product.input_value(1))
    if len(dims(ids)) != 2 or dims(ids)[1] is None or dims(weights) != dims(ids) or element_type(weights) != "f32":
        raise NotMatched("does not weight [T, k] ids by as many f32 weights", product)
    return Routing(ids, weights)


def _sums_one_hots(last: ov.Node) -> bool:
    """Whether a factor of what is added up is a Transpose of a sum: no other family's is."""
    if last.get_type_name() != "ReduceSum" or last.input_value(0).get_node().get_type_name() != "Multiply":
        return False
    for value in last.input_value(0).get_node().input_values():
        node = Walk().through_views(value).get_node()
        if node.get_type_name() == "Transpose" and node.input_value(0).get_node().get_type_name() == "ReduceSum":
            return True
    return False
