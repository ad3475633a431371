"""Tiled, three GEMMs: every expert computes every token, and a routing that is mostly zero picks what counts.

Read from Qwen3-MoE (transformers ``qwen3_moe``) as optimum-intel 2.2.0 exports it; Mixtral, Qwen2-MoE, PhiMoE,
LFM2-MoE, AFMoE, and by their patches in optimum-intel Qwen3-Next and Qwen3.5-MoE, have the same form:

    x [T, H] -> Tile [E, 1] -> views [E, T, H] -> MatMul gate -> Swish \
                                               -> MatMul up ------> Multiply -> MatMul down -> views -> sum
"""

from __future__ import annotations

import openvino as ov

from ..block import Experts, MoEBlock, Skipped, block_at
from ..projections import read_separate
from ..regions import has_fused_gate_up, match_each, regions
from ..walk import Walk
from ..weights import read_weights
from .expert_sum import expect_size, read_ends, read_expert_sum, read_tokens


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
    repeated, (gate, up, down), activation = read_separate(walk, total.results, read_weights)
    x = read_tokens(walk, repeated, total.experts, total.hidden)
    intermediate = gate.spec.n
    expect_size(gate, total.experts, intermediate, total.hidden)
    expect_size(up, total.experts, intermediate, total.hidden)
    expect_size(down, total.experts, total.hidden, intermediate)
    routing, output_shape = read_ends(walk, total, x)
    walk.expect_closed(last)
    return block_at(last, x, routing, Experts(gate, up, down, activation), output_shape)
