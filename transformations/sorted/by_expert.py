"""Sorted rows: (token, slot) pairs are sorted by expert, and each expert computes its slice of them.

Read from GraniteMoE (``granitemoe``) as optimum-intel 2.2.0 exports it; GraniteMoE-Hybrid has the same form:

    ids [T, k] -> views [T * k] -> TopK(all of them, ascending): order; order / k: tokens
    ids -> ones scattered [T, E] -> ReduceSum: counts [E] -> Gather, Add: where each expert's rows end
    x [T, H] -> Gather tokens -> per expert Slice, MatMul [2I, H] -> Concat -> VariadicSplit: gate, up [T * k, I]
    Multiply(Swish(gate), up) -> per expert Slice, MatMul [H, I] -> Concat [T * k, H]
    weights [T, k] -> views [T * k] -> Gather order -> [T * k, 1]
    Multiply of both -> ScatterElementsUpdate(zeros, tokens, sum) [T, H]
"""

from __future__ import annotations

import openvino as ov

from ..activation import read_gated
from ..block import Experts, MoEBlock, Routing, Skipped, block_at
from ..not_matched import NotMatched
from ..regions import match_each
from ..unrolled.expert_sum import expect_same_tokens, hidden_of, read_index_add, read_zeros
from ..unrolled.regions import has_sorted_rows, scatter_regions
from ..unrolled.rows import rows_and_factors, x_of_gather
from ..unrolled.stack import stack
from ..walk import Walk, dims, expect_integers
from .counts import Bounds, read_counts
from .order import read_sorted_tokens, read_sorted_weights
from .slices import SlicedProjection, read_sliced_projection


def find(model: ov.Model) -> tuple[list[MoEBlock], list[Skipped]]:
    """Finds the blocks of this family; the model is only read and no weights are copied.

    Args:
        model: Any model.

    Returns:
        The blocks in topological order, and the regions that look like a block but are not of this family.
    """
    return match_each((last for last in scatter_regions(model) if has_sorted_rows(last)), match)


def match(last: ov.Node) -> MoEBlock:
    """Reads the block that ends in the ScatterElementsUpdate ``last``.

    Raises:
        NotMatched: Naming the first node that is not part of this form.
    """
    walk, hidden = Walk(), hidden_of(last)
    bounds = Bounds(walk)
    added = read_index_add(walk, last, hidden)
    weighted = walk.enter(added.updates, "Multiply", "the weighting of the rows")
    results, factors = rows_and_factors(weighted, hidden)
    down = read_sliced_projection(walk, results, bounds, "the down projection")
    gated = read_gated(walk, down.rows)
    gate_up = _split_projection(walk, gated.gate, gated.up, bounds)
    experts, intermediate = len(down.parts), down.parts[0].spec.k
    if len(gate_up.parts) != experts:
        raise NotMatched(f"joins {len(gate_up.parts)} experts where down has {experts}", gate_up.concat)
    if (gate_up.parts[0].spec.n, gate_up.parts[0].spec.k, down.parts[0].spec.n) != (2 * intermediate, hidden, hidden):
        raise NotMatched(f"joins matrices that are not [2 * {intermediate}, {hidden}]", gate_up.concat)
    x, token = x_of_gather(walk, gate_up.rows, hidden, "the rows sorted by expert")
    if token != added.index:
        raise NotMatched("gathers other tokens than those to which the results are added", gate_up.rows.get_node())
    order, ids, top_k = read_sorted_tokens(walk, token)
    assert bounds.counts is not None  # the first slice asked for a bound
    read_counts(walk, bounds.counts, experts, ids)
    weights = read_sorted_weights(walk, factors, order, top_k)
    output_shape = read_zeros(added.base, x)
    expect_same_tokens(x, ids, weights)
    walk.expect_closed(last)
    stacked = Experts(stack(gate_up.parts), None, stack(down.parts), gated.activation, "halves")
    return block_at(last, x, Routing(ids, weights), stacked, output_shape)


def _split_projection(walk: Walk, gate: ov.Output, up: ov.Output, bounds: Bounds) -> SlicedProjection:
    """The projection whose first half of columns is ``gate`` and whose second one is ``up``."""
    split = walk.enter(gate, "VariadicSplit", "the halves of gate and up")
    expect_integers(split, 1, [[-1], [1]], "an axis")
    if up.get_node().get_name() != split.get_name() or (gate.get_index(), up.get_index()) != (0, 1):
        raise NotMatched("does not give gate as its first and up as its second half", split)
    if split.get_output_size() != 2 or dims(gate)[1:] != dims(up)[1:] or dims(gate)[1] is None:
        raise NotMatched("does not cut two equal halves", split)
    projection = read_sliced_projection(walk, split.input_value(0), bounds, "the gate and up projection")
    _enter_lengths(walk, split.input_value(2), projection.concat)
    return projection


def _enter_lengths(walk: Walk, output: ov.Output, concat: ov.Node) -> None:
    """Gathers what computes the lengths of the halves from the shape of ``concat``.

    What it computes is not looked at: shape inference gave both halves their static width.
    """
    queue, seen = [output], {concat.get_name()}
    for value in queue:
        node = value.get_node()
        if node.get_name() in seen or node.get_type_name() == "Constant":
            continue
        seen.add(node.get_name())
        if node.get_type_name() != "ShapeOf" or node.input_value(0) == concat.output(0):
            walk.enter(value, str(node.get_type_name()), "the length of a half")
            queue.extend(node.input_values())
