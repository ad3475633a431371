"""Frozen descriptions that the layers hand to each other; nothing here imports another module of the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["f32", "f16", "u8", "i8", "u4", "i4", "f4e2m1"]
Schedule = Literal["grid", "pool"]
Fetch = Literal["ticket", "stride"]
MicroKernel = Literal["fma", "dpas"]
Balance = Literal["auto", "on", "off"]
ActivationKind = Literal["swiglu", "geglu_tanh", "geglu_erf", "reglu"]
GateUpLayout = Literal["separate", "interleaved", "halves"]


@dataclass(frozen=True)
class Activation:
    """What stands between the projections: h = act(gate) * (up + up_offset), in fp32.

    Attributes:
        kind: ``swiglu`` (gate * sigmoid(beta * gate)), ``geglu_tanh``, ``geglu_erf`` or ``reglu``.
        beta: Of the swish; 1.702 in GPT-OSS.
        limit: Before all else gate is clamped from above and up from both sides, None for no clamp; 7 in GPT-OSS.
        up_offset: Added to up after the clamp; 1 in GPT-OSS.
    """

    kind: ActivationKind = "swiglu"
    beta: float = 1.0
    limit: float | None = None
    up_offset: float = 0.0


SWIGLU = Activation()
"""silu(gate) * up, as in most models."""


@dataclass(frozen=True)
class ProjectionSpec:
    """How the weights [E, N, K] of one projection are stored.

    Attributes:
        precision: Element type of the stored weights.
        n: Output features (rows of an expert's matrix).
        k: Input features (the contracted axis, contiguous in memory).
        group_size: Elements of K that share one scale; equal to ``k`` for one scale a channel and 0 where
            there is no scale (f16 and f32).
        zero_point: Whether a zero point of the weights' own element type is subtracted before scaling.
    """

    precision: Precision
    n: int
    k: int
    group_size: int = 0
    zero_point: bool = False

    @property
    def groups(self) -> int:
        """Number of scales along K (0 where there is none)."""
        return self.k // self.group_size if self.group_size else 0

    def label(self) -> str:
        """A short name for reports, e.g. ``u4 g32 asym``."""
        if not self.group_size:
            return self.precision
        group = "channel" if self.group_size == self.k else f"g{self.group_size}"
        return f"{self.precision} {group} {'asym' if self.zero_point else 'sym'}"
