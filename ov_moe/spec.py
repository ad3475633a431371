"""Frozen descriptions that the layers hand to each other; nothing here imports another module of the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = str  # the name of a row of ov_moe.kernels.formats
Schedule = Literal["grid", "pool"]
Fetch = Literal["ticket", "stride"]
MicroKernelSwitch = str  # ``auto``, or a word of a micro-kernel: ov_moe.kernels.micro.switch_words
Balance = Literal["auto", "on", "off"]
Activations = Literal["f32", "f16"]
Vendor = Literal["intel", "nvidia", "other"]
ActivationKind = str  # the name of a row of ov_moe.kernels.activations
GateUpLayout = Literal["separate", "interleaved", "halves"]


@dataclass(frozen=True)
class Activation:
    """What stands between the projections: h = act(gate) * (up + up_offset), in fp32.

    Attributes:
        kind: Which act, e.g. ``swiglu``: gate * sigmoid(beta * gate).
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


@dataclass(frozen=True)
class Workload:
    """What a kernel is chosen for: the largest sizes of any block that it serves.

    Attributes:
        tokens: Most tokens of one launch.
        experts: E.
        top_k: Slots of a token, k.
        hidden: H.
        intermediate: I.
        precision: Of the weights.
        activations: Element type of the buffers of activations, as far as it is known before the kernel is built.
        few: Whether it is that of few tokens (decode), which has kernels of its own.
    """

    tokens: int
    experts: int
    top_k: int
    hidden: int
    intermediate: int
    precision: Precision = "u4"
    activations: Activations = "f16"
    few: bool = False

    @property
    def rows_per_expert(self) -> float:
        """Average rows of an expert with ``tokens`` tokens."""
        return self.tokens * self.top_k / self.experts


@dataclass(frozen=True)
class DeviceInfo:
    """What a choice knows of a device.

    Attributes:
        compute_units: Execution units of an Intel GPU, CL_DEVICE_MAX_COMPUTE_UNITS elsewhere.
        xmx_subgroup: Work-items of a sub-group that XMX takes, 8 or 16; 0 where there is no XMX.
        vendor: Who makes it.
        subgroup: Work-items of its smallest sub-group of 8 or more, 8 or 16.
    """

    compute_units: int
    xmx_subgroup: int = 0
    vendor: Vendor = "intel"
    subgroup: int = 8


@dataclass(frozen=True)
class Switches:
    """What a user may decide instead of the rules.

    Attributes:
        balance: ``on``, ``off`` or ``auto``; of prefill.
        fetch: How a pool group takes its next task in prefill; ``stride`` is for ablation.
        groups: Work-groups of the pool; None = they follow from the device's compute units.
        micro_kernel: ``auto``, or what a micro-kernel is asked for by.
    """

    balance: Balance = "auto"
    fetch: Fetch = "ticket"
    groups: int | None = None
    micro_kernel: MicroKernelSwitch = "auto"
