"""Work sizes of each stage: what the grid's formula says, what the pool's constant is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.stages import COMBINE, DOWN, ROUTE, Stage


@dataclass(frozen=True)
class WorkSize:
    """Work-groups along three dimensions and work-items of a group along the first."""

    groups: tuple[int, int, int]
    local_size: int

    @property
    def global_size(self) -> tuple[int, int, int]:
        """Work-items along three dimensions."""
        return (self.groups[0] * self.local_size, self.groups[1], self.groups[2])

    @property
    def total_groups(self) -> int:
        """Work-groups launched."""
        return self.groups[0] * self.groups[1] * self.groups[2]

    def union(self, other: WorkSize) -> WorkSize:
        """The smallest size that covers both: one custom layer serves every block of a model."""
        a, b = self.groups, other.groups
        return WorkSize((max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2])), self.local_size)


def work_size(stage: Stage, config: KernelConfig, block: Mapping[str, int]) -> WorkSize:
    """The work size of a stage for a block with ``experts``, ``max_tokens`` and, for GEMMs, its sizes.

    The grid is (N blocks, row tiles of max_tokens rows, experts), as upstream's.
    """
    if stage.runs(ROUTE):
        groups = (1, 1, 1)
    elif stage.runs(COMBINE):
        groups = (min(block["max_tokens"], config.groups), 1, 1)
    elif config.schedule == "pool":
        groups = (config.groups, 1, 1)
    else:
        columns = block["hidden"] if stage.runs(DOWN) else 2 * block["intermediate"]
        groups = (-(-columns // config.tile_n), -(-block["max_tokens"] // config.tile_m), block["experts"])
    return WorkSize(groups, config.local_size)
