"""What a test model's block is made of: the form of its experts, and all weights, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ov_moe import reference
from ov_moe.spec import Activation, GateUpLayout, Precision
from ov_moe.testing.weights import RawWeights, random_weights

Ends = Literal["flat", "batch", "slots"]
Parts = Literal["slice", "split", "variadic_split"]
Precisions = Precision | tuple[Precision, ...]
Biases = Literal["none", "f16", "f32"]


@dataclass(frozen=True)
class Form:
    """Which of the known forms the experts take.

    Attributes:
        activation: Its limit and offset stand as GPT-OSS has them.
        layout: ``separate`` is three GEMMs.
        parts: How gate and up are taken out of one GEMM.
        ends: ``flat`` ends in [T, H] as Qwen3-MoE, ``batch`` in [B, S, H] as AFMoE, ``slots`` in [T, 1, H] as GPT-OSS.
        shared_expert: A dense layer of the same x is added behind.
    """

    activation: Activation = Activation()  # noqa: RUF009  (frozen)
    layout: GateUpLayout = "separate"
    parts: Parts = "slice"
    ends: Ends = "flat"
    shared_expert: bool = False


@dataclass(frozen=True)
class BlockWeights:
    """Weights of one block: router f32 [E, H] or None, float64 gate and up [E, I, H], float64 down [E, H, I].

    ``raw`` holds what the constants of gate, up and down hold, in this order; of gate and up together, and down,
    where one GEMM gives both. Biases are f16 or f32: [E, 2I] in the order of the stored rows, and [E, H].
    """

    router: NDArray[np.float32] | None
    gate: NDArray[np.float64]
    up: NDArray[np.float64]
    down: NDArray[np.float64]
    raw: tuple[RawWeights, ...]
    form: Form = Form()
    gate_bias: NDArray[np.floating] | None = None
    down_bias: NDArray[np.floating] | None = None
    shared: NDArray[np.float32] | None = None

    def oracle(
        self, x: NDArray[np.floating], ids: NDArray[np.integer], factors: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """y [T, H] of the experts alone, without what is shared, in float64."""
        gate = up = down = None
        if self.gate_bias is not None:
            gate, up = reference.split_gate_up(self.gate_bias.astype(np.float64), self.form.layout)
        if self.down_bias is not None:
            down = self.down_bias.astype(np.float64)
        dense, activation = (self.gate, self.up, self.down), self.form.activation
        return reference.moe(x, ids, factors, *dense, activation=activation, gate_bias=gate, up_bias=up, down_bias=down)


@dataclass(frozen=True)
class Recipe:
    """By what the weights of a block are drawn, so that its outputs are O(1) for standard normal x.

    Attributes:
        experts: E.
        hidden: H.
        intermediate: I.
        precision: Of all projections, or of (gate, up, down), or of (gate and up, down) where one GEMM gives both.
        group_size: Of 4-bit weights; 0 gives one scale a channel.
        group_size_8bit: The same of 8-bit weights, which exports scale by channel.
        symmetric: Leaves out the zero points of u4 and u8; i4 and i8 never have one.
        form: Of the experts.
        biases: Type of the biases, if any; only where one GEMM gives gate and up.
    """

    experts: int
    hidden: int
    intermediate: int
    precision: Precisions
    group_size: int
    group_size_8bit: int
    symmetric: bool
    form: Form
    biases: Biases = "none"

    def draw(self, rng: np.random.Generator, routed: bool = True) -> BlockWeights:
        """The weights of one block, with those of a router where it is ``routed``."""
        form, fused = self.form, self.form.layout != "separate"
        raw = self._projections(rng, fused)
        router = self._square(rng, self.experts) if routed else None
        dense = raw[0].dense()
        gate, up = reference.split_gate_up(dense, form.layout) if fused else (dense, raw[1].dense())
        gate_bias, down_bias = (self._bias(rng, n) for n in (2 * self.intermediate, self.hidden))
        shared = self._square(rng, self.hidden) if form.shared_expert else None
        return BlockWeights(router, gate, up, raw[-1].dense(), raw, form, gate_bias, down_bias, shared)

    def _projections(self, rng: np.random.Generator, fused: bool) -> tuple[RawWeights, ...]:
        i, h = self.intermediate, self.hidden
        sizes = [(2 * i, h), (h, i)] if fused else [(i, h), (i, h), (h, i)]
        kinds = (self.precision,) * len(sizes) if isinstance(self.precision, str) else self.precision
        groups = (self.group_size if "4" in kind else self.group_size_8bit for kind in kinds)
        return tuple(
            random_weights(rng, kind, experts=self.experts, n=n, k=k, group=group, symmetric=self.symmetric)
            for kind, group, (n, k) in zip(kinds, groups, sizes, strict=True)
        )

    def _square(self, rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
        dense: NDArray[np.float32] = rng.standard_normal((rows, self.hidden), np.float32) / self.hidden**0.5
        return dense

    def _bias(self, rng: np.random.Generator, n: int) -> NDArray[np.floating] | None:
        if self.biases == "none":
            return None
        return (rng.standard_normal((self.experts, n)) / 2).astype(np.float16 if self.biases == "f16" else np.float32)
