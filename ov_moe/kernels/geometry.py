"""Work sizes of each stage: what the grid's formula says, what the pool's constant is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.stages import COMBINE, DOWN, ROUTE, Stage

# Each group of Route counts all pairs and places a share: a second one pays from 8192 pairs on (H200).
ROUTE_PAIRS = 4096
ROUTE_GROUPS = 16
# Combine: work-items of a group, columns of a work-item where d is f16, and groups that fill the largest device (132
# multiprocessors of 2048 work-items). Its loop strides.
COMBINE_SIZE = 256
COMBINE_COLUMNS = 8
COMBINE_GROUPS = 1056


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


def local_size(stage: Stage, config: KernelConfig) -> int:
    """Work-items of a group."""
    if stage.runs(ROUTE):
        return config.route_size
    return COMBINE_SIZE if stage.runs(COMBINE) else config.micro.local_size


def work_size(stage: Stage, config: KernelConfig, block: Mapping[str, int]) -> WorkSize:
    """The work size of a stage for a block with ``experts``, ``max_tokens`` and the sizes that the stage knows.

    The grid is (column tiles, row tiles of max_tokens rows, experts), as upstream's.
    """
    size = local_size(stage, config)
    if stage.runs(ROUTE):
        pairs = block["max_tokens"] * block["top_k"]
        return WorkSize((min(max(pairs // ROUTE_PAIRS, 1), ROUTE_GROUPS), 1, 1), size)
    if stage.runs(COMBINE):
        items = block["max_tokens"] * -(-block["hidden"] // COMBINE_COLUMNS)
        return WorkSize((min(-(-items // size), COMBINE_GROUPS), 1, 1), size)
    if config.schedule == "pool":
        return WorkSize((config.groups, 1, 1), size)
    columns = block["hidden"] if stage.runs(DOWN) else 2 * block["intermediate"]
    column_tiles, row_tiles = -(-columns // config.micro.tile_n), -(-block["max_tokens"] // config.micro.tile_m)
    return WorkSize((column_tiles, row_tiles, block["experts"]), size)
