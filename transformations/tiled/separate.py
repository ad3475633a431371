"""Tiled, three GEMMs: every expert computes every token, and a routing that is mostly zero picks what counts.

Read from Qwen3-MoE (transformers ``qwen3_moe``) as optimum-intel 2.2.0 exports it; Mixtral, Qwen2-MoE, PhiMoE,
LFM2-MoE, AFMoE, and by their patches in optimum-intel Qwen3-Next and Qwen3.5-MoE, have the same form:

    x [T, H] -> Tile [E, 1] -> views [E, T, H] -> MatMul gate -> Swish \
                                               -> MatMul up ------> Multiply -> MatMul down -> views -> sum
"""

from __future__ import annotations

import openvino as ov

from ..activation import read_gated
from ..block import MoEBlock, Skipped
from ..not_matched import NotMatched
from ..regions import has_fused_gate_up, match_each, regions
from ..walk import Walk
from .expert_sum import expect_size, read_ends, read_expert_sum, read_projection, read_tokens


def find(model: ov.Model) -> tuple[list[MoEBlock], list[Skipped]]:
    """Finds the blocks of this family; the model is only read.

    Args:
        model: Any model.

    Returns:
        The blocks in topological order, and the regions that look like a block but are not of this family.
    """
    return match_each((last for last in regions(model) if not has_fused_gate_up(last)), match)


def match(last: ov.Node) -> MoEBlock:
    """Reads the block that ends in the ReduceSum ``last``.

    Raises:
        NotMatched: Naming the first node that is not part of this form.
    """
    walk = Walk()
    total = read_expert_sum(walk, last)
    down_in, down = read_projection(walk, total.results, "down")
    gated = read_gated(walk, down_in)
    gate_in, gate = read_projection(walk, gated.gate, "gate")
    up_in, up = read_projection(walk, gated.up, "up")
    if gate_in != up_in:
        raise NotMatched("multiplies a gate and an up projection of different inputs", down_in.get_node())
    x = read_tokens(walk, gate_in, total.experts, total.hidden)
    intermediate = gate.spec.n
    expect_size(gate, total.experts, intermediate, total.hidden)
    expect_size(up, total.experts, intermediate, total.hidden)
    expect_size(down, total.experts, total.hidden, intermediate)
    routing, output_shape = read_ends(walk, total, x)
    walk.expect_closed(last)
    return MoEBlock(
        name=str(last.get_friendly_name()),
        x=x,
        topk_ids=routing.ids,
        topk_weights=routing.weights,
        output=last.output(0),
        experts=total.experts,
        top_k=routing.top_k,
        hidden=total.hidden,
        intermediate=intermediate,
        gate=gate,
        up=up,
        down=down,
        activation=gated.activation,
        output_shape=output_shape,
    )
