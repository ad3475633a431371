"""What every tiled block begins and ends with, whatever its experts are.

    x [T, H] -> Tile [E, 1] -> views [E, T, H] -> experts -> views [E, T, H] or [E, a, b, H]
    dense routing -> views [E, T, 1] or [E, a, b, 1]
    Multiply of both -> ReduceSum(axis 0) [T, H] or [a, b, H]

a * b = T: batch and sequence where a shared expert is added behind (AFMoE, Qwen3-Next, Qwen3.5), T and 1 in GPT-OSS.
"""

from __future__ import annotations

from dataclasses import dataclass

import openvino as ov

from ..block import Routing
from ..not_matched import NotMatched
from ..walk import Walk, dims, element_type, expect_dims, expect_integers
from ..weights import ExpertWeights
from .routing import read_routing
from .token_axes import token_axes


@dataclass(frozen=True, eq=False)
class ExpertSum:
    """The end of a block.

    Attributes:
        weighted: The Multiply by the routing.
        results: The experts' outputs [E, T, H], before any view.
        viewed: The same as the Multiply reads it.
        factors: The routing as the Multiply reads it.
        experts: E.
        hidden: H.
    """

    weighted: ov.Node
    results: ov.Output
    viewed: ov.Output
    factors: ov.Output
    experts: int
    hidden: int


def read_expert_sum(walk: Walk, last: ov.Node) -> ExpertSum:
    """Reads the ReduceSum ``last`` and the Multiply before it; raises ``NotMatched``."""
    if last.get_type_name() != "ReduceSum":
        raise NotMatched("leads to experts whose outputs no ReduceSum adds up", last)
    shape = dims(last.input_value(0))
    if len(shape) not in (3, 4) or shape[0] is None or shape[-1] is None:
        found = last.input_value(0).get_partial_shape()
        raise NotMatched(f"adds up {found}, not [E, T, H] or [E, B, S, H] with fixed E and H", last)
    expect_integers(last, 1, [[0], [-len(shape)]], "axes")
    if last.get_attributes()["keep_dims"]:
        raise NotMatched("has keep_dims = true", last)
    experts, hidden = shape[0], shape[-1]
    weighted = walk.enter(last.input_value(0), "Multiply", "the weighting of the experts' outputs")
    first, second = weighted.input_values()
    swapped = dims(first)[-1:] == (1,) and dims(second)[-1:] != (1,)
    viewed, factors = (second, first) if swapped else (first, second)
    expect_dims(viewed, (experts, *(None,) * (len(shape) - 2), hidden), "the experts' outputs")
    if len(dims(factors)) != len(shape):
        raise NotMatched(f"multiplies outputs of rank {len(shape)} by factors of rank {len(dims(factors))}", weighted)
    results = walk.through_views(viewed)
    expect_dims(results, (experts, None, hidden), "the experts' outputs")
    return ExpertSum(weighted, results, viewed, factors, experts, hidden)


def read_ends(walk: Walk, total: ExpertSum, x: ov.Output) -> tuple[Routing, ov.Output | None]:
    """(routing, shape of the block's output where that is not [T, H]).

    The token counts of x and of the ids are not compared where they are dynamic: the graph's own Multiply of
    the two needs them to agree.

    Raises:
        NotMatched: Naming the first node of the routing, or of the views, that is not of this form.
    """
    routing = read_routing(walk, total.factors, total.experts)
    rows = {dims(x)[0], dims(routing.ids)[0]}
    if None not in rows and len(rows) > 1:
        raise NotMatched("weights experts of a number of tokens other than that of the ids", total.weighted)
    if len(dims(total.viewed)) == 3:
        return routing, None
    axes = token_axes(total.viewed, routing.ids)
    if not axes.agrees(token_axes(total.factors, routing.ids)):
        raise NotMatched("multiplies outputs and factors whose token axes cannot be shown to agree", total.weighted)
    return routing, axes.shape(total.hidden)


def read_tokens(walk: Walk, repeated: ov.Output, experts: int, hidden: int) -> ov.Output:
    """x [T, H], which stands E times, one after the other, in ``repeated`` [E, T, H]; raises ``NotMatched``."""
    expect_dims(repeated, (experts, None, hidden), "the input of the experts")
    tile = walk.enter(walk.through_views(repeated), "Tile", "the repetition of x for the experts")
    expect_integers(tile, 1, [[experts, 1]], "repeats")
    x = tile.input_value(0)
    expect_dims(x, (None, hidden), "x")
    if element_type(x) != "f32":
        raise NotMatched(f"gives x as {element_type(x)}, not f32", x.get_node())
    return x


def expect_size(weights: ExpertWeights, experts: int, n: int, k: int) -> None:
    """Raises ``NotMatched`` unless the weights are [experts, n, k]."""
    found, wanted = [weights.experts, weights.spec.n, weights.spec.k], [experts, n, k]
    if found != wanted:
        raise NotMatched(f"holds [E, N, K] = {found} where the block needs {wanted}", weights.values)
