"""Measures what the device can do at most, on the device itself: a streaming read, and arithmetic in registers."""

from __future__ import annotations

import numpy as np

from ov_moe.devices.timing import Prepared, TimingDevice
from ov_moe.errors import DeviceError
from ov_moe.kernel_bench.cost import Limits
from ov_moe.kernel_bench.schedules import bench_source
from ov_moe.kernels.geometry import WorkSize

_LOCAL = 256
_FMA_FLOP = 32  # a step and work-item, see limits.cl
_MMA_FLOP = 32768 / 32


def measure_limits(device: TimingDevice, read_bytes: int = 2**31, steps: int = 4096, repeats: int = 7) -> Limits:
    """The best of ``repeats`` runs of each kernel.

    Args:
        device: The device.
        read_bytes: Size of the streaming read, cut to a quarter of the device's memory: several times its caches.
        steps: Length of the chains of multiply-adds.
        repeats: Runs of each kernel after one that is not counted.
    """
    bandwidth = _read(device, min(read_bytes, int(device.device.global_mem_size) // 4), repeats)
    flops, name = _chains(device, "limits.cl", "bench_fma", _FMA_FLOP, steps, repeats), "fma"
    if "nvidia" in str(device.device.vendor).lower():
        try:
            mma = _chains(device, "limits_mma.cl", "bench_mma", _MMA_FLOP, steps, repeats)
        except DeviceError:  # before compute capability 8.0
            mma = 0.0
        if mma > flops:
            flops, name = mma, "mma"
    return Limits(flops, bandwidth, name)


def _read(device: TimingDevice, size: int, repeats: int) -> float:
    count = size // 16
    source, out = device.allocate(count * 16), device.allocate(4)
    device.fill(source, 0x3F9D70A4)
    kernel = device.prepare(bench_source("limits.cl"), "bench_read", [source, np.uint64(count), out])
    seconds = _best(device, kernel, device.compute_units * 16, repeats)
    source.release()
    return count * 16 / seconds


def _chains(device: TimingDevice, file: str, entry: str, flop: float, steps: int, repeats: int) -> float:
    groups = device.compute_units * 16
    kernel = device.prepare(bench_source(file), entry, [np.int32(steps), device.allocate(4)])
    return groups * _LOCAL * flop * steps / _best(device, kernel, groups, repeats)


def _best(device: TimingDevice, kernel: Prepared, groups: int, repeats: int) -> float:
    size = WorkSize((groups, 1, 1), _LOCAL)
    device.milliseconds([device.enqueue(kernel, size)])
    return min(device.milliseconds([device.enqueue(kernel, size)]) for _ in range(repeats)) * 1e-3
