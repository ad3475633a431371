"""The schedules that are compared: configuration, the source that stands in for cl/schedule.cl, and the launches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.choose import choose_config, gemv_config, pool_groups
from ov_moe.kernels.compose import read_source
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.geometry import WorkSize, work_size
from ov_moe.kernels.mma import PACK_ROWS, can_pack, mma_config, mma_refusal
from ov_moe.kernels.stages import COMBINE, ROUTE, Stage
from ov_moe.spec import Activations, DeviceInfo, Fetch, Workload

Settings = Mapping[str, str]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """One way to share out the tiles of the GEMMs.

    Attributes:
        name: What the command line calls it.
        summary: One sentence for the list.
        fetch: How a pool takes tasks; None where there is no pool.
        source: A file of ov_moe/kernel_bench/cl in place of cl/schedule.cl, or None: the product's own.
        find: Of schedule_find.cl.
        host_counts: Whether the host must know the rows of each expert before it launches.
    """

    name: str
    summary: str
    fetch: Fetch | None = None
    source: str | None = None
    find: str | None = None
    host_counts: bool = False


SCHEDULES = {
    schedule.name: schedule
    for schedule in (
        Schedule("grid", "(N blocks, row tiles of all tokens, experts): upstream's; the product's balance=off"),
        Schedule(
            "grid-largest", "the same, row tiles of the largest expert: oneDNN grouped with its hint", host_counts=True
        ),
        Schedule("loop", "one launch an expert that has rows", source="schedule_loop.cl", host_counts=True),
        Schedule("pool-stride", "a fixed pool, task g, g + groups, ...: fetch=stride", "stride"),
        Schedule("pool-ticket", "a fixed pool, tasks by atomic tickets: the product's balance=on", "ticket"),
        *(
            Schedule(
                f"pool-{fetch}-{find}",
                f"pool-{fetch} with {words}",
                fetch,
                "schedule_find.cl",
                find,
            )
            for fetch in ("stride", "ticket")
            for find, words in (
                ("search", "the expert found by binary search"),
                ("walk", "the expert found by a monotone walk"),
                ("tiles", "the row tiles of an expert one behind another, not the N blocks of a row tile"),
            )
        ),
    )
}


@dataclass(frozen=True)
class Launch:
    """One enqueue of a kernel; groups that find no task leave at once.

    Attributes:
        size: Work size.
        offset: Added to the global ids.
        live: Groups that find at least one task (of a pool with tickets: at most so many).
    """

    size: WorkSize
    live: int
    offset: tuple[int, int, int] = (0, 0, 0)


def find_schedule(name: str) -> Schedule:
    """A schedule by name; InvalidInputError, which lists them, for any other word."""
    if name not in SCHEDULES:
        raise InvalidInputError(f"schedule {name!r} is unknown: use {', '.join(SCHEDULES)}.")
    return SCHEDULES[name]


def configure(
    schedule: Schedule, spec: BlockSpec, tokens: int, activations: Activations, device: DeviceInfo, settings: Settings
) -> KernelConfig:
    """The configuration for a case: tensor cores on an NVIDIA GPU that can serve the block, else ``fma``.

    Args:
        schedule: The schedule.
        spec: The block.
        tokens: T, not the room of the buffers.
        activations: Type of x, h, d and y.
        device: Where it runs.
        settings: Fields of the configuration to replace, as text. ``micro_kernel`` and ``packed`` are decided first.

    Raises:
        InvalidInputError: A field that there is not, a value that is not of its type, or ``micro_kernel=mma`` for a
            block that tensor cores cannot serve, or ``dpas`` for a device without XMX.
    """
    config = choose_config(
        "on" if schedule.fetch else "off", spec.experts, 1, schedule.fetch or "ticket", pool_groups(device)
    )
    kind = settings.get("micro_kernel", "auto")
    refusal = mma_refusal(spec, activations)
    if kind == "mma" and not refusal and device.vendor != "nvidia" and settings.get("emulation", "0") == "0":
        refusal = "the device is no NVIDIA GPU: leave it out, or add --set emulation=1, slow, for tests alone"
    if kind == "dpas" and not device.xmx_subgroup and settings.get("emulation", "0") == "0":
        raise InvalidInputError(
            "--set micro_kernel=dpas: the device has no XMX: leave it out, or add --set emulation=1 for tests."
        )
    if kind == "mma" and refusal:
        raise InvalidInputError(f"--set micro_kernel=mma: {refusal}.")
    if kind == "mma" or (kind == "auto" and device.vendor == "nvidia" and not refusal):
        workload = Workload(tokens, spec.experts, spec.top_k, spec.hidden, spec.intermediate, spec.gate.precision)
        pays = str(int(workload.rows_per_expert >= PACK_ROWS))
        packed = can_pack(spec) and settings.get("packed", pays) != "0"
        config = mma_config(config, workload, device.compute_units, packed)
    elif kind == "gemv":
        config = gemv_config(config, device.subgroup)
    types = {field.name: type(getattr(config, field.name)) for field in fields(config)}
    changes: dict[str, int | str | bool] = {}
    for name, text in settings.items():
        if name not in types or name in ("schedule", "fetch"):
            known = ", ".join(sorted(set(types) - {"schedule", "fetch"}))
            raise InvalidInputError(f"--set {name}={text}: the configuration has {known}.")
        if (name, text) == ("micro_kernel", "auto"):
            continue
        try:
            changes[name] = types[name](int(text)) if types[name] in (int, bool) else text
        except ValueError:
            raise InvalidInputError(f"--set {name}={text}: {name} is a whole number.") from None
    return replace(config, **changes)  # type: ignore[arg-type]


def with_schedule(text: str, schedule: Schedule) -> str:
    """A composed GEMM program with the schedule's source in place of the product's."""
    if schedule.source is None:
        return text
    product = read_source("schedule.cl")
    assert text.count(product) == 1
    define = f"#define FIND {schedule.find}\n" if schedule.find else ""
    return text.replace(product, define + bench_source(schedule.source))


@cache
def bench_source(name: str) -> str:
    """The text of one file of ov_moe/kernel_bench/cl."""
    return (resources.files("ov_moe.kernel_bench") / "cl" / name).read_text(encoding="utf-8")


def launches(
    schedule: Schedule, stage: Stage, config: KernelConfig, sizes: Mapping[str, int], counts: Counts
) -> list[Launch]:
    """What is enqueued for a stage.

    Args:
        schedule: The schedule.
        stage: The stage.
        config: The kernel configuration.
        sizes: Of the block.
        counts: Rows of each expert. Only the number of live groups depends on it, and with ``host_counts`` the grid.
    """
    size = work_size(stage, config, sizes)
    if stage in (ROUTE, COMBINE):
        return [Launch(size, size.total_groups)]
    tiles = -(-counts // config.tile_m)
    grid = work_size(stage, replace(config, schedule="grid"), sizes)
    blocks, rows, experts = grid.groups
    if schedule.fetch:
        return [Launch(size, min(size.total_groups, int(tiles.sum()) * blocks))]
    if schedule.source:
        return [
            Launch(WorkSize((blocks, int(count), 1), size.local_size), blocks * int(count), (0, 0, expert))
            for expert, count in enumerate(tiles)
            if count
        ]
    if schedule.host_counts:
        rows = max(int(tiles.max()), 1)
    return [Launch(WorkSize((blocks, rows, experts), size.local_size), int(np.minimum(tiles, rows).sum()) * blocks)]
