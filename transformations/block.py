"""What the finders hand to the rewrite: a record for a block that was read, one for a region that was not."""

from __future__ import annotations

from dataclasses import dataclass

import openvino as ov
from openvino.op import Constant

from ov_moe.spec import SWIGLU, Activation, GateUpLayout

from .weights import ExpertWeights


@dataclass(frozen=True, eq=False)
class Routing:
    """Which experts each token goes to; the ids of one token are distinct and from 0 to E-1, as a TopK gives them.

    Attributes:
        ids: i32 or i64 [T, k], or [..., k] with T = the product of the others.
        weights: f32 [T, k], or [..., k].
    """

    ids: ov.Output
    weights: ov.Output


@dataclass(frozen=True, eq=False)
class Experts:
    """The experts of a block: down(activation(gate(x), up(x))).

    Attributes:
        gate: [E, I, H]; [E, 2I, H] and both projections where ``layout`` is not ``separate``.
        up: [E, I, H]; None where it stands inside ``gate``.
        down: [E, H, I].
        activation: What stands between the projections.
        layout: ``separate``; ``interleaved``: even rows of ``gate`` are gate, odd ones up; ``halves``: the first
            I rows are gate, the others up.
        gate_bias: f16 or f32, 2 * E * I elements in the order of the rows of ``gate`` (only where the layout is
            not ``separate``), or None.
        down_bias: f16 or f32, E * H elements, or None.
    """

    gate: ExpertWeights
    up: ExpertWeights | None
    down: ExpertWeights
    activation: Activation = SWIGLU
    layout: GateUpLayout = "separate"
    gate_bias: Constant | None = None
    down_bias: Constant | None = None

    @property
    def experts(self) -> int:
        """E."""
        return self.down.experts

    @property
    def hidden(self) -> int:
        """H."""
        return self.down.spec.n

    @property
    def intermediate(self) -> int:
        """I."""
        return self.down.spec.k


@dataclass(frozen=True, eq=False, kw_only=True)
class MoEBlock(Experts):
    """A Mixture-of-Experts block: y[t] = sum over slots of weights[t, s] * expert ids[t, s] of x[t].

    Everything between the three inputs and ``output`` may be replaced: no other part of the model reads it.

    Attributes:
        name: Friendly name of the node that gives ``output``.
        x: f32 [T, H], before it is repeated for the experts, or [..., H] with T = the product of the others.
        topk_ids: As ``Routing.ids``.
        topk_weights: As ``Routing.weights``.
        output: f32 [T, H], or the shape that ``output_shape`` gives.
        output_shape: i64 [rank]: y [T, H] is reshaped to it, -1 for what is left and no special zeros. A constant or
            a node of its own that reads shapes of the model outside the block. None where ``output`` is [T, H].
    """

    name: str
    x: ov.Output
    topk_ids: ov.Output
    topk_weights: ov.Output
    output: ov.Output
    output_shape: ov.Output | None

    @property
    def top_k(self) -> int:
        """k, experts a token."""
        return int(self.topk_ids.get_partial_shape()[-1].get_length())


def block_at(
    last: ov.Node, x: ov.Output, routing: Routing, experts: Experts, output_shape: ov.Output | None
) -> MoEBlock:
    """The block that the only output of ``last`` ends; see ``MoEBlock``."""
    return MoEBlock(
        **vars(experts),
        name=str(last.get_friendly_name()),
        x=x,
        topk_ids=routing.ids,
        topk_weights=routing.weights,
        output=last.output(0),
        output_shape=output_shape,
    )


@dataclass(frozen=True)
class Skipped:
    """A region that looks like a Mixture-of-Experts block but was left as it is.

    Attributes:
        name: Friendly name of the ReduceSum that adds up its experts, or of its TopK where there is none.
        reason: A sentence that names the node and the first condition that failed.
    """

    name: str
    reason: str
