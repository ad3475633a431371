"""What the virtual GPU counted: program builds, kernel launches, allocations, waits of the host."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Build:
    """One clBuildProgram: the kernels it gave, whether they came from the binary cache, and its time."""

    kernels: tuple[str, ...]
    cached: bool
    seconds: float


@dataclass(frozen=True)
class Launch:
    """Launches of the kernels of one name; groups are 0 where the runtime chose the work-group size."""

    count: int
    groups: int
    last_groups: int


@dataclass(frozen=True)
class Allocation:
    """Allocations of one kind: number and bytes since the reset, bytes alive now, and the most alive at once."""

    count: int
    bytes: int
    live_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class Counters:
    """Everything counted since `reset()`.

    `launches` is keyed by kernel name, `allocations` by "buffer", "usm_host", "usm_device" and "usm_shared".
    """

    builds: tuple[Build, ...]
    launches: dict[str, Launch]
    allocations: dict[str, Allocation]
    blocking_waits: int

    def builds_of(self, prefix: str) -> tuple[Build, ...]:
        """Builds of programs with a kernel whose name starts with `prefix`."""
        return tuple(build for build in self.builds if any(name.startswith(prefix) for name in build.kernels))

    def launches_of(self, prefix: str) -> dict[str, Launch]:
        """Launches of kernels whose names start with `prefix`."""
        return {name: launch for name, launch in self.launches.items() if name.startswith(prefix)}


def parse(text: str | bytes) -> Counters:
    """Counters from the JSON that the C library writes."""
    found = json.loads(text)
    return Counters(
        builds=tuple(
            Build(tuple(filter(None, build["kernels"].split(";"))), build["cached"], build["microseconds"] / 1e6)
            for build in found["builds"]
        ),
        launches={name: Launch(**launch) for name, launch in sorted(found["launches"].items())},
        allocations={kind: Allocation(**allocation) for kind, allocation in found["allocations"].items()},
        blocking_waits=found["blocking_waits"],
    )
