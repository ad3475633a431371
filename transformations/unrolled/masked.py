"""Unrolled: one sub-graph an expert gathers its tokens and adds its rows to the sum of the experts before it.

Read from Mixtral and Qwen2-MoE as transformers 4.57 and optimum-intel 2.2.0 export them; PhiMoE is written
the same way. Each expert e, in any order, is

    OneHot(ids) [T, k, E] -> Transpose [E, k, T] -> Gather e -> NonZero -> Split: slots, tokens [1, rows]
    x [T, H] -> Gather tokens -> MatMul gate -> Swish \
                              -> MatMul up ------> Multiply -> MatMul down [rows, H]
    weights [T, k] -> [T * k, 1] -> Gather (slots + tokens * k) [rows, 1]
    Multiply of both -> ScatterElementsUpdate(sum so far, tokens, sum) [T, H]

and the sum starts at zeros. A shared expert is added behind the last scatter and is not part of the block.
"""

from __future__ import annotations

from dataclasses import dataclass

import openvino as ov

from ov_moe.spec import Activation

from ..block import Experts, MoEBlock, Routing, Skipped, block_at
from ..not_matched import NotMatched
from ..projections import read_separate
from ..regions import match_each
from ..walk import Walk, dims
from .dispatch import read_factors, read_mask, read_selection
from .expert_sum import expect_same_tokens, hidden_of, read_index_add, read_zeros
from .regions import chain, has_sorted_rows, scatter_regions
from .rows import rows_and_factors, x_of_gather
from .stack import stack
from .weights import MatrixWeights, expect_matrix, read_matrix

_SHARED = {"mask": "mask of chosen experts", "x": "x", "weights": "top-k weights", "activation": "activation"}


@dataclass(frozen=True, eq=False)
class _Expert:
    """What one scatter of the chain adds, and the outputs that all experts must share."""

    scatter: ov.Node
    index: int
    mask: ov.Output
    x: ov.Output
    weights: ov.Output
    gate: MatrixWeights
    up: MatrixWeights
    down: MatrixWeights
    activation: Activation


def find(model: ov.Model) -> tuple[list[MoEBlock], list[Skipped]]:
    """Finds the blocks of this family; the model is only read and no weights are copied.

    Args:
        model: Any model.

    Returns:
        The blocks in topological order, and the regions that look like a block but are not of this family.
    """
    return match_each((last for last in scatter_regions(model) if not has_sorted_rows(last)), match)


def match(last: ov.Node) -> MoEBlock:
    """Reads the block that ends in the ScatterElementsUpdate ``last``.

    Raises:
        NotMatched: Naming the first node that is not part of this form.
    """
    walk = Walk()
    hidden = hidden_of(last)
    scatters = list(chain(last))[::-1]
    for scatter in scatters[:-1]:
        walk.enter(scatter.output(0), "ScatterElementsUpdate", "the sum of the experts so far")
    found = [_read_expert(walk, scatter, hidden) for scatter in scatters]
    first = found[0]
    ids, count = read_mask(walk, first.mask)
    by_index = _in_order(found, count, last)
    intermediate = first.gate.spec.n
    for index, expert in enumerate(by_index):
        expect_matrix(expert.gate, intermediate, hidden, f"a gate projection of expert {index}")
        expect_matrix(expert.up, intermediate, hidden, f"an up projection of expert {index}")
        expect_matrix(expert.down, hidden, intermediate, f"a down projection of expert {index}")
    start = scatters[0].input_value(0)
    output_shape = read_zeros(start, first.x)
    expect_same_tokens(first.x, ids, first.weights)
    walk.expect_closed(last)
    experts = Experts(
        gate=stack([expert.gate for expert in by_index]),
        up=stack([expert.up for expert in by_index]),
        down=stack([expert.down for expert in by_index]),
        activation=first.activation,
    )
    return block_at(last, first.x, Routing(ids, first.weights), experts, output_shape)


def _read_expert(walk: Walk, scatter: ov.Node, hidden: int) -> _Expert:
    added = read_index_add(walk, scatter, hidden)
    selection = read_selection(walk, added.index)
    role = f"of expert {selection.expert}"
    weighted = walk.enter(added.updates, "Multiply", f"the weighting of the rows {role}")
    rows, factors = rows_and_factors(weighted, hidden)
    gathered, (gate, up, down), activation = read_separate(walk, rows, read_matrix, f" {role}")
    x, tokens = x_of_gather(walk, gathered, hidden, f"the tokens {role}")
    if tokens != selection.tokens:
        raise NotMatched(f"multiplies other tokens {role} than those to which it adds", weighted)
    top_k = dims(selection.mask)[1]
    if top_k is None:
        raise NotMatched("gives a mask without a fixed k", selection.mask.get_node())
    weights = read_factors(walk, factors, selection, top_k)
    return _Expert(scatter, selection.expert, selection.mask, x, weights, gate, up, down, activation)


def _in_order(found: list[_Expert], experts: int, last: ov.Node) -> list[_Expert]:
    """The experts by their index; raises unless each of 0 to E-1 stands there once, all on the same inputs."""
    first = found[0]
    by_index: dict[int, _Expert] = {}
    for expert in found:
        for shared, role in _SHARED.items():
            if getattr(expert, shared) != getattr(first, shared):
                raise NotMatched(f"adds expert {expert.index}, which has another {role}", expert.scatter)
        if expert.index in by_index:
            raise NotMatched(f"adds expert {expert.index} a second time", expert.scatter)
        if not 0 <= expert.index < experts:
            raise NotMatched(f"adds expert {expert.index} of {experts}", expert.scatter)
        by_index[expert.index] = expert
    for index in range(experts):
        if index not in by_index:
            raise NotMatched(f"ends a sum without expert {index} of {experts}", last)
    return [by_index[index] for index in range(experts)]
