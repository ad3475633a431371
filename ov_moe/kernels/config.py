"""Kernel configurations: what the programs of a model are built with; choose.py chooses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from ov_moe.arguments import check_word
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.micro import Fma, MicroKernel
from ov_moe.kernels.stages import Stage
from ov_moe.spec import Fetch, Schedule

STANDARD = "-cl-std=CL2.0"  # as the GPU plugin builds by itself
# Without it Intel's compiler addresses a buffer by 32 bits, whatever the index's type.
LARGE_BUFFERS = "-cl-intel-greater-than-4GB-buffer-required"
ADDRESSED_BY_32_BITS = 2**32  # bytes


@dataclass(frozen=True)
class KernelConfig:
    """What the composed programs are built with; the same for every MoE block of a model.

    Attributes:
        schedule: ``grid`` or ``pool``.
        fetch: How a pool group takes its next task.
        groups: Work-groups of the pool.
        micro: What multiplies the tiles, and their sizes.
        route_size: Work-items of a group of Route, a multiple of 32; 256 is the most that every Intel GPU has.
    """

    schedule: Schedule
    fetch: Fetch
    groups: int
    micro: MicroKernel = field(default_factory=Fma)
    route_size: int = 256

    def __post_init__(self) -> None:
        check_word("schedule", self.schedule, get_args(Schedule))
        check_word("fetch", self.fetch, get_args(Fetch))
        if self.groups < 1:
            raise InvalidInputError(f"A pool of {self.groups} work-groups cannot run: ask for at least 1.")
        if self.route_size < 32 or self.route_size % 32:
            raise InvalidInputError(f"route_size is {self.route_size}, it must be a positive multiple of 32.")

    @property
    def tasks(self) -> str:
        """How a work-group finds its tasks: ``grid``, or how the pool fetches."""
        return "grid" if self.schedule == "grid" else self.fetch

    def defines(self) -> dict[str, str]:
        """The preprocessor definitions that stand for this configuration, where there is a micro-kernel."""
        return {"SCHEDULE": self.tasks, **self.micro.defines()}

    def settings(self) -> dict[str, Any]:
        """All of it, flat, as reports show it."""
        own = {name: value for name, value in asdict(self).items() if name != "micro"}
        return {**own, **self.micro.settings()}


@dataclass(frozen=True)
class ModelConfig:
    """The configurations of a model's kernels: for many tokens, and for few; ``why`` they have their micro-kernel."""

    prefill: KernelConfig
    decode: KernelConfig
    why: str = field(default="", compare=False, repr=False)

    def of(self, stage: Stage) -> KernelConfig:
        """The configuration that a stage is built with."""
        return self.decode if stage.decode else self.prefill
