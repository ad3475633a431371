"""Tiled, three GEMMs: every expert computes every token, and a routing that is mostly zero picks what counts.

Read from Qwen3-MoE (transformers ``qwen3_moe``) as optimum-intel 2.2.0 exports it; Mixtral, Qwen2-MoE, PhiMoE
and LFM2-MoE have the same form:

    x [T, H] -> Tile [E, 1] -> views [E, T, H] -> MatMul gate -> Swish \
                                               -> MatMul up ------> Multiply -> MatMul down -> views [E, T, H]
    Broadcast(0) [T, E] -> ScatterElementsUpdate(ids, weights) -> Transpose -> views [E, T, 1]
    Multiply of both -> ReduceSum(axis 0) [T, H]
"""

from __future__ import annotations

import numpy as np
import openvino as ov

from .block import MoEBlock, Skipped
from .not_matched import NotMatched
from .regions import regions
from .routing import read_routing
from .walk import Walk, constant, dims, element_type, expect_dims, expect_integers
from .weights import ExpertWeights, read_weights


def find(model: ov.Model) -> tuple[list[MoEBlock], list[Skipped]]:
    """Finds the blocks of this family; the model is only read.

    Args:
        model: Any model.

    Returns:
        The blocks in topological order, and the regions that look like a block but are not of this family.
    """
    blocks: list[MoEBlock] = []
    skipped: list[Skipped] = []
    for last in regions(model):
        try:
            blocks.append(match(last))
        except NotMatched as reason:
            skipped.append(Skipped(str(last.get_friendly_name()), str(reason)))
    return blocks, skipped


def match(last: ov.Node) -> MoEBlock:
    """Reads the block that ends in the ReduceSum ``last``.

    The token counts of x and of the ids are not compared where they are dynamic: the graph's own Multiply of
    the two needs them to agree.

    Raises:
        NotMatched: Naming the first node that is not part of this form.
    """
    walk = Walk()
    experts, hidden = _expert_sum(last)
    weighted = walk.enter(last.input_value(0), "Multiply", "the weighting of the experts' outputs")
    results, factors = _results_and_factors(weighted)
    expect_dims(results, (experts, None, hidden), "the experts' outputs")
    down_in, down = _projection(walk, walk.through_views(results), "down")
    gated = walk.enter(down_in, "Multiply", "the product of gate and up")
    swish_out, up_out = _swish_first(gated)
    gate_in, gate = _projection(walk, _swish_input(walk, swish_out), "gate")
    up_in, up = _projection(walk, up_out, "up")
    if gate_in != up_in:
        raise NotMatched("multiplies a gate and an up projection of different inputs", gated)
    x = _before_tile(walk, gate_in, experts, hidden)
    intermediate = gate.spec.n
    _expect_size(gate, experts, intermediate, hidden)
    _expect_size(up, experts, intermediate, hidden)
    _expect_size(down, experts, hidden, intermediate)
    routing = read_routing(walk, factors, experts)
    rows = {dims(x)[0], dims(routing.ids)[0]}
    if None not in rows and len(rows) > 1:
        raise NotMatched("weights experts of a number of tokens other than that of the ids", weighted)
    walk.expect_closed(last)
    return MoEBlock(
        name=str(last.get_friendly_name()),
        x=x,
        topk_ids=routing.ids,
        topk_weights=routing.weights,
        output=last.output(0),
        experts=experts,
        top_k=routing.top_k,
        hidden=hidden,
        intermediate=intermediate,
        gate=gate,
        up=up,
        down=down,
    )


def _expert_sum(last: ov.Node) -> tuple[int, int]:
    """(E, H) of a ReduceSum over axis 0 of [E, T, H]."""
    if last.get_type_name() != "ReduceSum":
        raise NotMatched("leads to experts whose outputs no ReduceSum adds up", last)
    expect_integers(last, 1, [[0], [-3]], "axes")
    if last.get_attributes()["keep_dims"]:
        raise NotMatched("has keep_dims = true", last)
    shape = dims(last.input_value(0))
    if len(shape) != 3 or shape[0] is None or shape[2] is None:
        raise NotMatched(f"adds up {last.input_value(0).get_partial_shape()}, not [E, T, H] with fixed E and H", last)
    return shape[0], shape[2]


def _results_and_factors(weighted: ov.Node) -> tuple[ov.Output, ov.Output]:
    """(outputs of the experts, routing factors); the factors are the operand with last dimension 1."""
    first, second = weighted.input_values()
    return (second, first) if dims(first)[-1:] == (1,) and dims(second)[-1:] != (1,) else (first, second)


def _projection(walk: Walk, output: ov.Output, name: str) -> tuple[ov.Output, ExpertWeights]:
    """(input, weights) of a batched MatMul with weights [E, N, K]."""
    node = walk.enter(output, "MatMul", f"the {name} projection")
    attributes = node.get_attributes()
    if attributes["transpose_a"]:
        raise NotMatched("has transpose_a = true", node)
    if not attributes["transpose_b"]:
        raise NotMatched("has transpose_b = false", node)
    return node.input_value(0), read_weights(node.input_value(1))


def _swish_first(gated: ov.Node) -> tuple[ov.Output, ov.Output]:
    """(activated gate, up); up is the operand that is a MatMul."""
    first, second = gated.input_values()
    return (second, first) if first.get_node().get_type_name() == "MatMul" else (first, second)


def _swish_input(walk: Walk, output: ov.Output) -> ov.Output:
    swish = walk.enter(output, "Swish", "the activation of the gate")
    if swish.get_input_size() > 1:
        beta = constant(swish.input_value(1))
        if beta is None or not np.all(beta == 1):
            found = "that is not constant" if beta is None else f"of {beta.tolist()}"
            raise NotMatched(f"has a beta {found} instead of 1", swish)
    return swish.input_value(0)


def _before_tile(walk: Walk, repeated: ov.Output, experts: int, hidden: int) -> ov.Output:
    """x [T, H], which stands E times, one after the other, in ``repeated`` [E, T, H]."""
    expect_dims(repeated, (experts, None, hidden), "the input of the experts")
    tile = walk.enter(walk.through_views(repeated), "Tile", "the repetition of x for the experts")
    expect_integers(tile, 1, [[experts, 1]], "repeats")
    x = tile.input_value(0)
    expect_dims(x, (None, hidden), "x")
    if element_type(x) != "f32":
        raise NotMatched(f"gives x as {element_type(x)}, not f32", x.get_node())
    return x


def _expect_size(weights: ExpertWeights, experts: int, n: int, k: int) -> None:
    found, wanted = [weights.experts, weights.spec.n, weights.spec.k], [experts, n, k]
    if found != wanted:
        raise NotMatched(f"holds [E, N, K] = {found} where the block needs {wanted}", weights.values)
