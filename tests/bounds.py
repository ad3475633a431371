"""How far a block may be from the float64 oracle: rounding errors counted along the way of the computation.

u is half the eps of fp32, v half the eps of the buffers' type. What the kernels round, and how often:
    g, u    K fused multiply-adds in fp32: K u sum |x w| at most; one more for scales that are no f16; one for a bias
    h       the error of g and u through the activation, where no clamp cuts it off; what evaluating it adds
            (``_evaluated``); one rounding to v. Where rows have exponents and a value is beyond f16, what is below v is
            2^exponent times as large, once as it is stored and once as a row is brought to its largest exponent.
    d       the error of h through |W|, I fused multiply-adds, one for a bias, one rounding to v
    y       the error of d through the weights, k fused multiply-adds, one rounding to v
No constant here is tuned: a bound that fails is a bug in a kernel or in this count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from blocks import Block

from ov_moe import reference
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.exponents import F16_MAX
from ov_moe.spec import Activation

U = float(np.finfo(np.float32).eps) / 2
TINY = float(np.finfo(np.float32).tiny)  # below it a device may flush to zero
SWIGLU_ULPS = 3 + 0.5 + 2.5 + 0.5  # OpenCL's limits for exp and /, correct rounding of + and *
# |d act / d gate| stays below it: swish at any beta, gelu, relu.
SLOPES = {"swiglu": 1.1, "geglu_tanh": 1.13, "geglu_erf": 1.13, "reglu": 1.0}


def gamma(n: int) -> float:
    """n roundings after one another, in fp32."""
    return n * U / (1 - n * U)


@dataclass
class Error:
    """The error of y against the oracle in units of its bound.

    Attributes:
        worst: Largest error in units of the worst case; above 1 something other than rounding is at work.
        typical: Root mean square of the errors in units of what independent roundings add up to.
        count: Number of errors.
    """

    worst: float
    typical: float
    count: int

    def check(self) -> None:
        """Fail unless rounding explains the error; NaN fails too."""
        assert self.worst <= 1
        # Independent roundings need numbers to average over.
        assert self.count < 500 or self.typical <= 1


def error(block: Block, y: np.ndarray) -> Error:
    """Compare y [TM, H]; absent tokens are not looked at."""
    layout, kind = block.spec.plan_layout, np.finfo(block.x.dtype)
    tokens = layout.view(reference.plan(block.ids, layout.experts, 1)).tokens
    oracle, worst, variance = (np.zeros((tokens, block.spec.hidden)) for _ in range(3))
    magnitude, square = np.zeros_like(oracle), np.zeros_like(oracle)
    v, tiny = float(kind.eps) / 2, float(kind.smallest_subnormal) + float(np.finfo(np.float32).tiny)
    for expert in np.unique(block.ids[block.ids >= 0]):
        token, slot = np.nonzero(block.ids == expert)
        weight = block.weights[token, slot].astype(np.float64)[:, None]
        value, bound, var = _expert(block, int(expert), token, v, tiny)
        np.add.at(oracle, token, weight * value)
        np.add.at(worst, token, np.abs(weight) * bound)
        np.add.at(magnitude, token, np.abs(weight) * (np.abs(value) + bound))
        # An expert in several slots of a token makes the same error in each: they add up as they are.
        once, first, slots = np.unique(token, return_index=True, return_inverse=True)
        together = np.zeros((once.size, 1))
        np.add.at(together, slots, weight)
        variance[once] += together**2 * var[first]
        np.add.at(square, token, (weight * value) ** 2)
    worst = (worst + gamma(layout.top_k) * magnitude) * (1 + v) + v * np.abs(oracle) + tiny
    variance += layout.top_k * U**2 * (square + oracle**2) + (v * np.abs(oracle) + tiny) ** 2
    off = np.abs(y[:tokens].astype(np.float64) - oracle)
    if not off.size:
        return Error(0.0, 0.0, 0)
    return Error(float((off / worst).max()), float(np.sqrt((off**2 / variance).mean())), off.size)


def _expert(block: Block, expert: int, token: np.ndarray, v: float, tiny: float) -> tuple[np.ndarray, ...]:
    """d of an expert's rows in float64, the worst error it may have, and the error's variance."""
    x = block.x[token].astype(np.float64)
    w_gate, w_up, w_down = (w[expert].T for w in block.dense())
    b_gate, b_up, b_down = (b[expert] for b in block.biases())
    h, h_bound, h_var = activated(block.spec.activation, _product(x, w_gate, b_gate), _product(x, w_up, b_up))
    fine = tiny * _scale(block, h)
    h_bound = h_bound * (1 + v) + v * np.abs(h) + 2 * fine
    h_var = h_var + v**2 * h**2 + 2 * fine**2
    d, d_bound, d_var = _product(h, w_down, b_down)
    d_bound = d_bound + (1 + gamma(h.shape[1] + 2)) * (h_bound @ np.abs(w_down))
    fine = tiny * _scale(block, d)
    d_bound = d_bound * (1 + v) + v * np.abs(d) + fine
    return d, d_bound, d_var + h_var @ w_down**2 + v**2 * d**2 + fine**2


def _scale(block: Block, rows: np.ndarray) -> np.ndarray:
    """2^the largest exponent of each row."""
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    beyond = block.spec.h_exponents and block.x.dtype == np.float16
    return np.where(beyond & (largest > F16_MAX), np.exp2(np.floor(np.log2(np.maximum(largest, 1))) - 14), 1.0)


def activated(
    activation: Activation, gate: tuple[np.ndarray, ...], up: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, ...]:
    """act(gate) * (up + offset) from (value, worst error, variance) of both, in the same form; in fp32."""
    (g, g_bound, g_var), (u, u_bound, u_var) = gate, up
    limit, offset = activation.limit, abs(activation.up_offset)
    if limit is not None:
        # What is beyond the limit, errors included, is the limit, rounded.
        g_off, u_off = g - g_bound > limit, np.abs(u) - u_bound > limit
        g, u = np.minimum(g, limit), np.clip(u, -limit, limit)
        g_bound, u_bound = np.where(g_off, U * limit, g_bound), np.where(u_off, U * limit, u_bound)
        g_var, u_var = np.where(g_off, (U * limit) ** 2, g_var), np.where(u_off, (U * limit) ** 2, u_var)
    act = reference.activate(Activation(activation.kind, activation.beta), g, np.ones_like(g))
    h = act * (u + activation.up_offset)
    slope, around = SLOPES[activation.kind], _evaluated(activation, g, g_bound)
    if offset:  # rounded itself, and so is the sum
        u_bound = u_bound + U * (offset + np.abs(u + activation.up_offset) + u_bound)
        u_var = u_var + U**2 * (offset**2 + (u + activation.up_offset) ** 2)
    u = u + activation.up_offset
    slack = 2 * U * (SWIGLU_ULPS if activation.kind == "swiglu" else 0.5)
    bound = (slope * g_bound + around) * (np.abs(u) + u_bound) + np.abs(act) * u_bound
    bound = bound + slack * (np.abs(h) + bound) + TINY
    variance = (slope * u) ** 2 * g_var + (around * u) ** 2 + act**2 * u_var + slack**2 * h**2 + TINY**2
    return h, bound, variance


def _evaluated(activation: Activation, g: np.ndarray, g_bound: np.ndarray) -> np.ndarray:
    """The worst absolute error of act in fp32 beside what ``slack`` counts, as a multiple of |g|.

    swiglu  beta and beta * g are rounded, 2 u of t = beta g: |t sigmoid'(t)| is 0.224 at most; exp is infinite
            where act is below |g| / 2^128.
    tanh    2 u for each of g^3 and the sum, and of two constants: 8 u of p at most, |p tanh'(p)| is 0.448 at most;
            tanh 5 ulp, the sum 1 + tanh 2 u, and two products, each of them 2 at most before 0.5 g.
    erf     2 u of p, |p erf'(p)| is 0.484 at most; erf 16 ulp; the same sum and products.
    """
    size = np.abs(g) + g_bound
    if activation.kind == "swiglu":
        return (0.224 * 2 * U * (activation.beta != 1) + 2.0**-128) * size
    if activation.kind == "geglu_tanh":
        return 0.5 * (0.448 * 8 + 5 * 2 + 2 + 4) * U * size + TINY
    if activation.kind == "geglu_erf":
        return 0.5 * (0.484 * 2 + 16 * 2 + 2 + 4) * U * size + TINY
    if activation.kind == "reglu":
        return np.zeros_like(g)
    raise InvalidInputError(f"activation {activation.kind!r} has no bound written down for it.")


def _product(a: np.ndarray, w: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, ...]:
    """a @ w + bias, the worst error of K fused multiply-adds in fp32 (and a rounded w, the sum), and its variance."""
    k = a.shape[1] + 2
    value = a @ w + bias
    size = np.abs(a) @ np.abs(w) + np.abs(bias)
    # Partial sums are of the size of a random walk plus the drift to the final value.
    return value, gamma(k) * size + k * TINY, U**2 * k * (a**2 @ w**2 + bias**2 + value**2) + TINY**2
