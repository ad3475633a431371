"""How far a block may be from the float64 oracle: rounding errors counted along the way of the computation.

u is half the eps of fp32, v half the eps of the buffers' type. What the kernels round, and how often:
    g, u    K fused multiply-adds in fp32: K u sum |x w| at most; one more for scales that are no f16
    h       exp (3 ulp), an addition, a division (2.5 ulp) and a product in fp32: 13 u; then one rounding to v
    d       the error of h through |W|, I fused multiply-adds, one rounding to v
    y       the error of d through the weights, k fused multiply-adds, one rounding to v
No constant here is tuned: a bound that fails is a bug in a kernel or in this count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from blocks import Block

from ov_moe import reference

U = float(np.finfo(np.float32).eps) / 2
SWIGLU_ULPS = 3 + 0.5 + 2.5 + 0.5  # OpenCL's limits for exp and /, correct rounding of + and *
SILU_SLOPE = 1.1  # |d silu / d g| stays below it


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
        np.add.at(variance, token, weight**2 * var)
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
    w_gate, w_up, w_down = (p.dense[expert].T for p in (block.gate, block.up, block.down))
    g, g_bound, g_var = _product(x, w_gate)
    u, u_bound, u_var = _product(x, w_up)
    silu = reference.swiglu(g, np.ones_like(g))
    h = silu * u
    slack = 2 * U * SWIGLU_ULPS
    h_bound = SILU_SLOPE * g_bound * (np.abs(u) + u_bound) + np.abs(silu) * u_bound
    h_bound = h_bound + slack * (np.abs(h) + h_bound)
    h_bound = h_bound * (1 + v) + v * np.abs(h) + tiny
    h_var = (SILU_SLOPE * u) ** 2 * g_var + silu**2 * u_var + (slack**2 + v**2) * h**2 + tiny**2
    d, d_bound, d_var = _product(h, w_down)
    d_bound = d_bound + (1 + gamma(h.shape[1] + 1)) * (h_bound @ np.abs(w_down))
    d_bound = d_bound * (1 + v) + v * np.abs(d) + tiny
    return d, d_bound, d_var + h_var @ w_down**2 + v**2 * d**2 + tiny**2


def _product(a: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, ...]:
    """a @ w, the worst error of K fused multiply-adds in fp32 (and a rounded w), and the error's variance."""
    k = a.shape[1] + 1
    value = a @ w
    # Partial sums are of the size of a random walk plus the drift to the final value.
    return value, gamma(k) * (np.abs(a) @ np.abs(w)), U**2 * k * (a**2 @ w**2 + value**2)
