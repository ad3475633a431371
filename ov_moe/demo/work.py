"""What the virtual GPU counts while a variant is compiled and run; nothing on a real device."""

from __future__ import annotations

from dataclasses import dataclass

from ov_moe import virtual_gpu

# Every kernel of ov-moe is named so.
_OURS = "ov_moe_"


@dataclass(frozen=True)
class Builds:
    """Program builds, and how many of the programs hold a kernel of ov-moe."""

    total: int
    ours: int

    def __sub__(self, earlier: Builds) -> Builds:
        return Builds(self.total - earlier.total, self.ours - earlier.ours)

    def __str__(self) -> str:
        return f"{self.total} ({self.ours})"


@dataclass(frozen=True)
class Work:
    """What one variant took.

    Attributes:
        launches: Launches of ov-moe's kernels in one prefill.
        groups: Their work-groups.
        at_compile: Builds until compile_model came back.
        later: Builds after that, in all inferences.
    """

    launches: int
    groups: int
    at_compile: Builds
    later: Builds


def builds() -> Builds:
    """Builds since the counters were reset."""
    counted = virtual_gpu.snapshot()
    return Builds(len(counted.builds), len(counted.builds_of(_OURS)))


def launches() -> tuple[int, int]:
    """Launches of ov-moe's kernels since the counters were reset, and their work-groups."""
    ours = virtual_gpu.snapshot().launches_of(_OURS).values()
    return sum(launch.count for launch in ours), sum(launch.groups for launch in ours)
