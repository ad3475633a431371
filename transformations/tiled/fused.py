"""Tiled, two GEMMs: gate and up come out of one MatMul, interleaved or in halves.

Read from GPT-OSS (transformers ``gpt_oss``) as optimum-intel 2.2.0 exports it: interleaved, with biases and clamps.

    views [E, T, H] -> MatMul [E, 2I, H] -> Add [E, 1, 2I] -> Slice 0::2 -> Minimum(7) -> Swish(1.702) \
                                                           -> Slice 1::2 -> Clamp(-7, 7) -> Add(1) ---> Multiply
    -> MatMul [E, H, I] -> Add [E, 1, H] -> views -> sum

Slices :I and I: (or a Split, or a VariadicSplit) are halves. Each Add, clamp and offset may be missing.
"""

from __future__ import annotations

import openvino as ov
from openvino.op import Constant

from ov_moe.kernels.formats import FLOATS

from ..activation import read_gated
from ..block import Experts, MoEBlock, Skipped, block_at
from ..not_matched import NotMatched
from ..projections import read_projection
from ..regions import has_fused_gate_up, match_each, regions
from ..walk import Walk, dims, element_type, through_converts
from ..weights import ExpertWeights, read_weights
from .expert_sum import expect_size, read_ends, read_expert_sum, read_tokens
from .gate_up_parts import read_parts


def find(model: ov.Model) -> tuple[list[MoEBlock], list[Skipped]]:
    """Finds the blocks of this family; the model is only read.

    Args:
        model: Any model.

    Returns:
        The blocks in topological order, and the regions with one MatMul for gate and up that are not of this family.
    """
    return match_each((last for last in regions(model) if has_fused_gate_up(last)), match)


def match(last: ov.Node) -> MoEBlock:
    """Reads the block that ends in the ReduceSum ``last``.

    Raises:
        NotMatched: Naming the first node that is not part of this form.
    """
    walk = Walk()
    total = read_expert_sum(walk, last)
    down_in, down, down_bias = _biased_projection(walk, total.results, "down")
    gated = read_gated(walk, down_in)
    fused, layout = read_parts(walk, gated.gate, gated.up)
    repeated, gate, gate_bias = _biased_projection(walk, fused, "gate and up")
    x = read_tokens(walk, repeated, total.experts, total.hidden)
    intermediate = gate.spec.n // 2
    expect_size(gate, total.experts, 2 * intermediate, total.hidden)
    expect_size(down, total.experts, total.hidden, intermediate)
    routing, output_shape = read_ends(walk, total, x)
    walk.expect_closed(last)
    experts = Experts(gate, None, down, gated.activation, layout, gate_bias, down_bias)
    return block_at(last, x, routing, experts, output_shape)


def _biased_projection(walk: Walk, output: ov.Output, name: str) -> tuple[ov.Output, ExpertWeights, Constant | None]:
    """(input, weights, bias) of a batched MatMul and the Add behind it, where there is one."""
    bias: Constant | None = None
    if output.get_node().get_type_name() == "Add":
        add = walk.enter(output, "Add", f"the bias of the {name} projection")
        first, second = add.input_values()
        product, added = (second, first) if second.get_node().get_type_name() == "MatMul" else (first, second)
        bias = _bias(added, dims(output))
        output = product
    source, weights = read_projection(walk, output, f"the {name} projection", read_weights)
    return source, weights, bias


def _bias(added: ov.Output, shape: tuple[int | None, ...]) -> Constant:
    """The constant [E, 1, N] behind Converts that is added to [E, T, N]."""
    bias = through_converts(added).get_node()
    if bias.get_type_name() != "Constant":
        raise NotMatched("stands where the bias should be a Constant", bias)
    if element_type(bias.output(0)) not in FLOATS:
        raise NotMatched(f"holds a bias of type {element_type(bias.output(0))}, not f16 or f32", bias)
    found, wanted = [int(d) for d in bias.shape], [shape[0], 1, shape[-1]]
    if found != wanted:
        raise NotMatched(f"holds a bias of shape {found} where the experts need {wanted}", bias)
    return bias
