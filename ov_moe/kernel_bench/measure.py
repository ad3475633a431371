"""Times variants side by side, A B B A, each behind a flush of the caches; medians and spreads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ov_moe.devices.timing import Prepared, TimingDevice
from ov_moe.kernel_bench.case import Run
from ov_moe.kernel_bench.schedules import bench_source
from ov_moe.kernels.geometry import WorkSize

FLUSH_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Timing:
    """Milliseconds of the runs of one variant: the median, the quartiles, and how many runs there were."""

    median: float
    low: float
    high: float
    runs: int

    @property
    def spread(self) -> float:
        """Distance of the quartiles as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def interleave(variants: Sequence[Callable[[], float]], repeats: int, seconds: float) -> list[Timing]:
    """Time every variant ``repeats`` times, in turns: forwards, then backwards, so that a drift meets all alike.

    Args:
        variants: Each runs once and returns its milliseconds. One run of each before the first is not counted.
        repeats: Rounds, at least 2; an odd number is raised to an even one.
        seconds: Wall-clock time after which no new pair of rounds begins.
    """
    for variant in variants:
        variant()
    taken: list[list[float]] = [[] for _ in variants]
    order = list(range(len(variants)))
    begin = time.monotonic()
    for number in range(max(1, -(-repeats // 2))):
        if number and time.monotonic() - begin > seconds:
            break
        for index in order + order[::-1]:
            taken[index].append(variants[index]())
    return [summarize(times) for times in taken]


def summarize(milliseconds: Sequence[float]) -> Timing:
    """Median and quartiles."""
    low, median, high = np.percentile(milliseconds, [25, 50, 75])
    return Timing(float(median), float(low), float(high), len(milliseconds))


class Flush:
    """Empties a device's caches: writes a buffer that is larger than they are, and on a GPU reads another one.

    After the write alone the cache is full of lines that must go to memory first: up to 50 MB on an H100, which is a
    quarter of what a layer of few tokens reads. Both also keep the device busy while the host enqueues what is timed:
    launches do not wait for the host.
    """

    def __init__(self, device: TimingDevice, size: int = FLUSH_BYTES) -> None:
        self._device = device
        self.size = max(size, 4 * int(device.device.global_mem_cache_size)) if device.is_gpu else size
        self._buffer = device.allocate(self.size)
        self._word = 0
        self._read: Prepared | None = None
        if device.is_gpu:
            clean, out, count = device.allocate(self.size), device.allocate(4), np.uint64(self.size // 16)
            device.fill(clean, 0x3F9D70A4)
            self._read = device.prepare(bench_source("limits.cl"), "bench_read", [clean, count, out])

    def __call__(self) -> None:
        """Enqueue the write and the read."""
        self._word += 1
        self._device.fill(self._buffer, self._word)
        if self._read:
            self._device.enqueue(self._read, WorkSize((self._device.compute_units * 16, 1, 1), 256))


def timed(run: Run, stage: str, flush: Flush) -> Callable[[], float]:
    """A variant for ``interleave``: the layer, or one stage alone on the inputs that the last check left."""
    device = run.case.device

    def layer() -> float:
        flush()
        return device.milliseconds(run.layer())

    def alone() -> float:
        run.enqueue("route")  # for the tickets, and for the tile offsets: another run's tiles may be higher
        flush()
        return device.milliseconds(run.enqueue(stage))

    return layer if stage == "layer" else alone
