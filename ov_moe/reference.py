"""The float64 NumPy oracle: the plan, weight decompression, and the MoE block; it defines what is right."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ov_moe.arguments import check_word
from ov_moe.element_types import e8m0, unpack_nibbles
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.plan import (
    ID_ABSENT,
    ID_PADDING,
    LIVE_ROWS,
    ROW_INVALID,
    ROW_NONE,
    TICKET_DOWN,
    TICKET_GATE_UP,
    TILES,
    TOKENS,
    PlanLayout,
)
from ov_moe.spec import Activation, GateUpLayout, ProjectionSpec

Array = npt.NDArray[np.float64]

# What the 16 codes of f4e2m1 stand for (OCP Microscaling Formats 1.0): sign, two bits of exponent, one of mantissa.
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
# The same of every format that is no integer.
CODES: dict[str, Array] = {
    "f4e2m1": E2M1,
}
# Those that this module decodes by itself: it does not ask ov_moe.kernels.formats.
PRECISIONS = ("f32", "f16", "u8", "i8", "u4", "i4", *CODES)
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _swish(gate: Array, beta: float) -> Array:
    with np.errstate(over="ignore"):
        return gate / (1.0 + np.exp(-beta * gate))


# act(gate, beta). Those that this module computes by itself: it does not ask ov_moe.kernels.activations.
ACTS: dict[str, Callable[[Array, float], Array]] = {
    "swiglu": _swish,
    "geglu_tanh": lambda gate, _: 0.5 * gate * (1.0 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3))),
    "geglu_erf": lambda gate, _: 0.5 * gate * (1.0 + _erf(gate / math.sqrt(2))),
    "reglu": lambda gate, _: np.maximum(gate, 0.0),
}


def plan(ids: npt.NDArray[np.integer], experts: int, tile_m: int) -> npt.NDArray[np.int32]:
    """The plan of top-k ids [max_tokens, top_k]: rows ordered by expert, then by pair.

    Returns an i32 array of PlanLayout.size elements; elements that Route leaves alone are 0.
    """
    layout = PlanLayout(experts, ids.shape[1], ids.shape[0])
    present = np.flatnonzero((ids != ID_ABSENT).any(axis=1))
    tokens = int(present[-1]) + 1 if present.size else 0
    flat = ids[:tokens].reshape(-1)
    routed = (flat >= 0) & (flat < experts)
    pairs = np.flatnonzero(routed)
    pairs = pairs[np.argsort(flat[pairs], kind="stable")]
    counts = np.bincount(flat[pairs], minlength=experts)
    tiles = -(-counts // tile_m)

    result = np.zeros(layout.size, np.int32)
    result[[TOKENS, LIVE_ROWS, TILES]] = tokens, pairs.size, tiles.sum()
    result[[TICKET_GATE_UP, TICKET_DOWN]] = 0
    result[layout.row_offset + 1 : layout.row_offset + 1 + experts] = np.cumsum(counts)
    result[layout.tile_offset + 1 : layout.tile_offset + 1 + experts] = np.cumsum(tiles)
    result[layout.pair_of_row : layout.pair_of_row + pairs.size] = pairs
    row_of_pair = np.where((flat == ID_PADDING) | (flat == ID_ABSENT), ROW_NONE, ROW_INVALID)
    row_of_pair[pairs] = np.arange(pairs.size)
    result[layout.row_of_pair : layout.row_of_pair + flat.size] = row_of_pair
    return result


def dequantize(
    spec: ProjectionSpec,
    values: npt.NDArray[np.generic],
    scale: npt.NDArray[np.generic] | None = None,
    zero_point: npt.NDArray[np.generic] | None = None,
) -> Array:
    """Weights [E, N, K] in float64 from what is stored: (q - zero point) * scale for each group along K.

    Args:
        spec: How the weights are stored.
        values: Stored weights; 4-bit ones as u8, two to a byte, flat.
        scale: E * N * groups scales in any shape, for f4e2m1 the bytes of f8e8m0 as u8; None for f16 and f32
            weights.
        zero_point: As many zero points, 4-bit ones packed like the weights, or None.

    Raises:
        InvalidInputError: The precision is none that is known, or does not go with the scales and zero points.
    """
    check_word("precision of weights", spec.precision, PRECISIONS)
    real = spec.precision in ("f16", "f32")
    if real != (spec.group_size == 0) or real != (scale is None) or (zero_point is not None and scale is None):
        raise InvalidInputError(
            f"{spec.precision} weights in groups of {spec.group_size} with {'no' if scale is None else 'a'} scale and "
            f"{'no' if zero_point is None else 'a'} zero point: integers have groups and scales, f16 and f32 neither."
        )
    codes = CODES.get(spec.precision)
    if codes is not None and zero_point is not None:
        raise InvalidInputError(f"{spec.precision} weights have a sign of their own and no zero point.")
    if scale is None:
        return values.reshape(-1, spec.n, spec.k).astype(np.float64)
    four_bit = spec.precision in ("u4", "i4") or (codes is not None and codes.size == 16)

    def numbers(stored: npt.NDArray[np.generic], count: int) -> Array:
        found = unpack_nibbles(stored.view(np.uint8), spec.precision == "i4", count) if four_bit else stored.reshape(-1)
        return found.astype(np.float64) if codes is None else codes[found.astype(np.uint8)]

    count = scale.size * spec.group_size
    grouped = numbers(values, count).reshape(-1, spec.group_size)
    if zero_point is not None:
        grouped = grouped - numbers(zero_point, scale.size).reshape(-1, 1)
    factors = e8m0(scale.view(np.uint8)) if spec.precision == "f4e2m1" else scale.astype(np.float64)
    return (grouped * factors.reshape(-1, 1)).reshape(-1, spec.n, spec.k)


def split_gate_up(fused: Array, layout: GateUpLayout) -> tuple[Array, Array]:
    """(gate, up), [E, I, ...] each, from both in one [E, 2I, ...]: weights or, without the last axis, biases.

    Raises InvalidInputError where the layout does not hold both.
    """
    check_word("layout of gate and up in one", layout, ("interleaved", "halves"))
    if layout == "interleaved":
        return fused[:, 0::2], fused[:, 1::2]
    half = fused.shape[1] // 2
    return fused[:, :half], fused[:, half:]


def activate(activation: Activation, gate: Array, up: Array) -> Array:
    """act(gate) * (up + offset), elementwise; where there is a limit both are clamped first, gate from above only.

    Raises InvalidInputError for a kind of activation that is none of ``ACTS``.
    """
    check_word("activation", activation.kind, tuple(ACTS))
    if activation.limit is not None:
        gate, up = np.minimum(gate, activation.limit), np.clip(up, -activation.limit, activation.limit)
    return ACTS[activation.kind](gate, activation.beta) * (up + activation.up_offset)


def swiglu(gate: Array, up: Array) -> Array:
    """silu(gate) * up, elementwise."""
    return activate(Activation(), gate, up)


def moe(
    x: npt.NDArray[np.floating],
    ids: npt.NDArray[np.integer],
    topk_weights: npt.NDArray[np.floating],
    gate: Array,
    up: Array,
    down: Array,
    *,
    activation: Activation | None = None,
    gate_bias: Array | None = None,
    up_bias: Array | None = None,
    down_bias: Array | None = None,
) -> Array:
    """The MoE block in float64: y[t] = sum over slots of weight * down(act(gate(x[t]), up(x[t]))).

    Args:
        x: Tokens [T, H].
        ids: Top-k expert ids [T, k]; -1 is padding and contributes nothing.
        topk_weights: [T, k].
        gate: [E, I, H].
        up: [E, I, H].
        down: [E, H, I].
        activation: What stands between the projections; SwiGLU unless given.
        gate_bias: [E, I], added to gate(x) before the activation, or None.
        up_bias: [E, I], or None.
        down_bias: [E, H], added to each expert's output before it is weighted, or None.

    Returns:
        y [T, H].

    Raises:
        InvalidInputError: An id is neither -1 nor the index of an expert, or the activation is not known.
    """
    check_ids(ids, gate.shape[0])
    y = np.zeros(x.shape, np.float64)

    def projected(rows: Array, weights: Array, bias: Array | None, expert: int) -> Array:
        product: Array = rows @ weights[expert].T
        return product if bias is None else product + bias[expert]

    for expert in np.unique(ids[ids >= 0]):
        token, slot = np.nonzero(ids == expert)
        rows = x[token].astype(np.float64)
        gated, other = projected(rows, gate, gate_bias, expert), projected(rows, up, up_bias, expert)
        hidden = activate(activation or Activation(), gated, other)
        np.add.at(y, token, projected(hidden, down, down_bias, expert) * topk_weights[token, slot][:, None])
    return y


def check_ids(ids: npt.NDArray[np.integer], experts: int) -> None:
    """Raise InvalidInputError, naming the first place, unless every id is padding or an expert's index."""
    wrong = np.argwhere((ids >= experts) | (ids < ID_ABSENT))
    if wrong.size:
        token, slot = (int(i) for i in wrong[0])
        raise InvalidInputError(
            f"top-k id {int(ids[token, slot])} of token {token}, slot {slot} is out of range: "
            f"it must be -1 (padding) or 0 to {experts - 1}."
        )
