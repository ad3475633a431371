"""A simulation of one GEMM's schedule over recorded rows: who computes which tile, and when. It is not a measurement.

Cost model: a tile takes one unit of time, however many of its rows are filled; a work-group that finds nothing to do
takes ``empty`` units. Work-groups start in order, each on the place that is free first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ov_moe.trace.recording import Counts


@dataclass(frozen=True, eq=False)
class Timeline:
    """What the places do, in units of one tile's time.

    Attributes:
        schedule: ``grid`` or ``pool``.
        groups: Places that work at the same time.
        place: Of each task; int64 [N], as ``expert``.
        start: Of each task, float64 [N].
        expert: Of each task; -1 for work-groups that find nothing.
        length: Of each task, float64 [N].
    """

    schedule: str
    groups: int
    place: npt.NDArray[np.int64]
    start: npt.NDArray[np.float64]
    length: npt.NDArray[np.float64]
    expert: npt.NDArray[np.int64]

    @property
    def end(self) -> float:
        """When the last task is done."""
        return float((self.start + self.length).max(initial=0.0))

    @property
    def busy(self) -> float:
        """Share of all places' time until the end that computes tiles."""
        return float(self.length[self.expert >= 0].sum() / (self.groups * self.end)) if self.end else 1.0


def pool(counts: Counts, groups: int, tile: int, blocks: int) -> Timeline:
    """Persistent groups that take tasks by ticket, expert by expert, row tile by row tile.

    Args:
        counts: Rows of each expert.
        groups: Persistent groups.
        tile: Rows of a tile.
        blocks: Column blocks of the GEMM.
    """
    tiles = -(-counts // tile)
    experts = np.repeat(np.arange(counts.size), tiles * blocks)
    return _play("pool", groups, ((int(expert), 1.0) for expert in experts))


def grid(counts: Counts, groups: int, tile: int, blocks: int, max_tokens: int, empty: float) -> Timeline:
    """One work-group for every (column block, row tile of ``max_tokens`` rows, expert), most of which find nothing.

    Args:
        counts: Rows of each expert.
        groups: Work-groups that run at the same time.
        tile: Rows of a tile.
        blocks: Column blocks of the GEMM.
        max_tokens: Rows that the grid provides for each expert.
        empty: Time of a work-group that finds nothing, in tiles.
    """
    height = -(-max_tokens // tile)

    def tasks() -> Iterable[tuple[int, float]]:
        for expert, tiles in enumerate((-(-counts // tile)).tolist()):
            for _ in range(min(tiles, height) * blocks):
                yield expert, 1.0
            idle = (height - min(tiles, height)) * blocks
            # A run of early exits is spread evenly over the places: one bar each in place of thousands.
            each, more = divmod(idle, groups)
            for place in range(min(groups, idle)):
                yield -1, empty * (each + (place < more))

    return _play("grid", groups, tasks())


def _play(schedule: str, groups: int, tasks: Iterable[tuple[int, float]]) -> Timeline:
    free = [(0.0, place) for place in range(groups)]
    rows: list[tuple[int, float, float, int]] = []
    for expert, length in tasks:
        start, place = heapq.heappop(free)
        rows.append((place, start, length, expert))
        heapq.heappush(free, (start + length, place))
    columns = list(zip(*rows, strict=True)) or [()] * 4
    return Timeline(
        schedule,
        groups,
        np.array(columns[0], np.int64),
        np.array(columns[1], np.float64),
        np.array(columns[2], np.float64),
        np.array(columns[3], np.int64),
    )
