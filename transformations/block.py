"""What the finders hand to the rewrite: a record for a block that was read, one for a region that was not."""

from __future__ import annotations

from dataclasses import dataclass

import openvino as ov

from ov_moe.spec import Activation

from .weights import ExpertWeights


@dataclass(frozen=True, eq=False)
class MoEBlock:
    """A Mixture-of-Experts block: y[t] = sum over slots of weights[t, s] * expert ids[t, s] of x[t].

    Everything between the three inputs and ``output`` may be replaced: no other part of the model reads it.
    The expert is down(silu(gate(x)) * up(x)). The ids of one token are distinct and from 0 to E-1, as a TopK
    gives them.

    Attributes:
        name: Friendly name of the node that gives ``output``.
        x: f32 [T, H], before it is repeated for the experts.
        topk_ids: i32 or i64 [T, k].
        topk_weights: f32 [T, k].
        output: f32 [T, H].
        experts: E.
        top_k: k, experts a token.
        hidden: H.
        intermediate: I.
        gate: [E, I, H].
        up: [E, I, H].
        down: [E, H, I].
        activation: What stands between the projections.
    """

    name: str
    x: ov.Output
    topk_ids: ov.Output
    topk_weights: ov.Output
    output: ov.Output
    experts: int
    top_k: int
    hidden: int
    intermediate: int
    gate: ExpertWeights
    up: ExpertWeights
    down: ExpertWeights
    activation: Activation = "swiglu"


@dataclass(frozen=True)
class Skipped:
    """A region that looks like a Mixture-of-Experts block but was left as it is.

    Attributes:
        name: Friendly name of the ReduceSum that adds up its experts, or of its TopK where there is none.
        reason: A sentence that names the node and the first condition that failed.
    """

    name: str
    reason: str
