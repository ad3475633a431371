"""The schedules that are compared: configuration, the source that stands in for the product's, and the launches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench.mma import PACK_ROWS, Mma, can_pack
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.choose import choose_config, choose_micro_kernel, pool_groups
from ov_moe.kernels.compose import read_source
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.geometry import WorkSize, work_size
from ov_moe.kernels.micro import MICRO_KERNELS as OF_PRODUCT
from ov_moe.kernels.micro import Fma, MicroKernel, MicroKernels
from ov_moe.kernels.stages import COMBINE, ROUTE, Stage
from ov_moe.spec import Activations, DeviceInfo, Fetch, Workload

Settings = Mapping[str, str]
Counts = npt.NDArray[np.int64]

MICRO_KERNELS: MicroKernels = {**OF_PRODUCT, Mma.name: Mma}
# What is compared unless something else is asked for; the later one, where it suits.
AUTOMATIC: tuple[type[MicroKernel], ...] = (Fma, Mma)


@dataclass(frozen=True)
class Schedule:
    """One way to share out the tiles of the GEMMs.

    Attributes:
        name: What the command line calls it.
        summary: One sentence for the list.
        fetch: How a pool takes tasks; None where there is no pool.
        source: A file of ov_moe/kernel_bench/cl in place of one of the product's, or None: the product's own.
        instead_of: That file of ov_moe.cl.
        find: Of schedule_find.cl.
        host_counts: Whether the host must know the rows of each expert before it launches.
    """

    name: str
    summary: str
    fetch: Fetch | None = None
    source: str | None = None
    instead_of: str = "schedule_grid.cl"
    find: str | None = None
    host_counts: bool = False


SCHEDULES = {
    schedule.name: schedule
    for schedule in (
        Schedule("grid", "(column tiles, row tiles of all tokens, experts): upstream's; the product's balance=off"),
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
                "schedule_locate.cl",
                find,
            )
            for fetch in ("stride", "ticket")
            for find, words in (
                ("search", "the expert found by binary search"),
                ("walk", "the expert found by a monotone walk"),
                ("tiles", "the row tiles of an expert one behind another, not the column tiles of a row tile"),
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
        settings: Fields of the configuration and of its micro-kernel to replace, as text; ``micro_kernel`` names that.

    Raises:
        InvalidInputError: A field that there is not, a value that is not of its type, or a micro-kernel that cannot
            serve the block, or the device.
    """
    config = choose_config(
        "on" if schedule.fetch else "off", spec.experts, 1, schedule.fetch or "ticket", pool_groups(device)
    )
    workload = Workload(tokens, spec.experts, spec.top_k, spec.hidden, spec.intermediate, spec.gate.precision)
    kind = _micro_kernel(settings, spec, workload, activations, device)
    if kind is Mma:
        pays = str(int(workload.rows_per_expert >= PACK_ROWS))
        config = Mma.placed(config, workload, device, packed=can_pack(spec) and settings.get("packed", pays) != "0")
    else:
        config = kind.placed(config, workload, device)
    own, of_micro = _changes(config, settings, ("schedule", "fetch", "micro")), _changes(config.micro, settings)
    for name, text in settings.items():
        if name not in {"micro_kernel", *own, *of_micro}:
            known = sorted({"micro_kernel", *_types(config, ("schedule", "fetch", "micro")), *_types(config.micro)})
            raise InvalidInputError(f"--set {name}={text}: the configuration has {', '.join(known)}.")
    return replace(config, **own, micro=replace(config.micro, **of_micro))


def _micro_kernel(
    settings: Settings, spec: BlockSpec, workload: Workload, activations: Activations, device: DeviceInfo
) -> type[MicroKernel]:
    """What the settings ask for, where it can serve the block on the device; else the first of AUTOMATIC that can."""
    name = settings.get("micro_kernel", "auto")
    if name == "auto":
        able = {kind.name: kind for kind in AUTOMATIC if kind.refuses(spec, activations) is None}
        return choose_micro_kernel(workload, device, "auto", able)[0]
    if name not in MICRO_KERNELS:
        raise InvalidInputError(f"micro_kernel is {name!r}, it must be one of {', '.join(MICRO_KERNELS)}.")
    kind = MICRO_KERNELS[name]
    refusal = kind.refuses(spec, activations)
    if refusal is None and kind.half_only and settings.get("emulation", "0") == "0":
        refusal = kind.unsuited(replace(workload, activations="f16"), device)
        refusal = refusal and f"{refusal}: leave it out, or add --set emulation=1, slow, for tests alone"
    if refusal:
        raise InvalidInputError(f"--set micro_kernel={name}: {refusal}.")
    return kind


def _types(record: Any, without: tuple[str, ...] = ()) -> dict[str, type]:
    return {field.name: type(getattr(record, field.name)) for field in fields(record) if field.name not in without}


def _changes(record: Any, settings: Settings, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings that are fields of a record, each of its field's type."""
    changes: dict[str, Any] = {}
    for name, kind in _types(record, without).items():
        if name in settings:
            try:
                changes[name] = kind(int(settings[name]))
            except ValueError:
                raise InvalidInputError(f"--set {name}={settings[name]}: {name} is a whole number.") from None
    return changes


def with_schedule(text: str, schedule: Schedule) -> str:
    """A composed GEMM program with the schedule's source in place of the product's."""
    if schedule.source is None:
        return text
    product = read_source(schedule.instead_of)
    assert text.count(product) == 1
    define = f"#define FIND {schedule.find}\n" if schedule.find else ""
    return text.replace(product, define + bench_source(schedule.source))


def bench_source(name: str) -> str:
    """The text of one file of ov_moe/kernel_bench/cl."""
    return read_source(f"ov_moe.kernel_bench:cl/{name}")


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
    tiles = -(-counts // config.micro.tile_m)
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
