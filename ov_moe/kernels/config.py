"""Kernel configurations: what programs are built with, and what a micro-kernel can run; choose.py chooses."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import get_args

from ov_moe.arguments import check_word
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.stages import Stage
from ov_moe.spec import Fetch, MicroKernel, Schedule

STANDARD = "-cl-std=CL2.0"  # as the GPU plugin builds by itself
# Without it Intel's compiler addresses a buffer by 32 bits, whatever the index's type.
LARGE_BUFFERS = "-cl-intel-greater-than-4GB-buffer-required"
FMA_LANES = 16
GEMV_ROWS = (1, 2, 4, 8)
GEMV_COLUMNS = 16  # of a slice and a part: whole sub-groups
GEMV_LOAD_K = 32  # elements of K that a work-item takes at a time
DPAS_ROWS = 8
DPAS_SUBGROUP_ROWS = 32
DPAS_LOAD_K = 32  # elements of K that one load of weights covers
# 32 rows of a sub-group: with 128 registers, sums and operands need 1 to 4 KiB of memory a thread; with 256, none.
LARGE_REGISTERS = "-cl-intel-256-GRF-per-thread"

# Rows and columns of a fragment, elements of K of one operand load, f16 of a 16-byte unit, work-items of a warp.
MMA_ROWS, MMA_COLUMNS, MMA_LOAD_K, MMA_UNIT, MMA_WARP = 16, 8, 32, 8, 32
_COUNTS = ("tile_m", "tile_n", "tile_k", "local_size", "subgroup", "subgroup_rows", "warps_m", "warps_n", "warps_k")
MMA_DEFINES = ("WARPS_M", "WARPS_N", "WARPS_K", "STAGES", "PACKED")


@dataclass(frozen=True)
class KernelConfig:
    """What the composed programs are built with; the same for every MoE block of a model.

    Attributes:
        schedule: ``grid`` or ``pool``.
        fetch: How a pool group takes its next task.
        groups: Work-groups of the pool.
        tile_m: Rows of a task.
        tile_n: Columns of a task (GateUp: half of them gate, half up).
        tile_k: Elements of K that stand in local memory at a time.
        local_size: Work-items of a group of a GEMM.
        route_size: Work-items of a group of Route, a multiple of 32; 256 is the most that every Intel GPU has.
        micro_kernel: What multiplies the tiles: ``fma`` (any device), ``gemv`` (any device, few rows), ``dpas`` (Intel
            XMX) or ``mma`` (NVIDIA tensor cores). In a kernel that is built for f32 buffers ``fma`` stands in for the
            last two, in these tiles.
        subgroup: Work-items of a sub-group of ``dpas`` and ``gemv``: 8 up to Arc, 16 on Ponte Vecchio and from Xe2 on.
        subgroup_rows: Rows that a sub-group of ``dpas`` owns: turning integers into f16 pays from 32 on.
        warps_m: Warps of ``mma`` along the rows of a tile, each of 32 work-items.
        warps_n: Along its columns.
        warps_k: Along K.
        stages: Depth of the copies of ``mma`` to local memory.
        packed: Whether ``mma`` finds 4-bit weights as ov_moe.kernels.pack lays them out, not as stored.
        emulation: Whether the matrix instruction is computed by sub-group operations, for devices without it.
    """

    schedule: Schedule
    fetch: Fetch
    groups: int
    tile_m: int = 32
    tile_n: int = 64
    tile_k: int = 32
    local_size: int = 128
    route_size: int = 256
    micro_kernel: MicroKernel = "fma"
    subgroup: int = 8
    subgroup_rows: int = 32
    warps_m: int = 1
    warps_n: int = 4
    warps_k: int = 1
    stages: int = 3
    packed: bool = False
    emulation: bool = False

    def __post_init__(self) -> None:
        check_word("schedule", self.schedule, get_args(Schedule))
        check_word("fetch", self.fetch, get_args(Fetch))
        if self.groups < 1:
            raise InvalidInputError(f"A pool of {self.groups} work-groups cannot run: ask for at least 1.")
        if self.route_size < 32 or self.route_size % 32:
            raise InvalidInputError(f"route_size is {self.route_size}, it must be a positive multiple of 32.")
        if self.micro_kernel not in get_args(MicroKernel):
            known = ", ".join(get_args(MicroKernel))
            raise InvalidInputError(f"micro_kernel is {self.micro_kernel!r}, it must be one of {known}.")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}, it must be at least 1.")
        if self.packed and self.micro_kernel != "mma":
            raise InvalidInputError(f"packed weights are for mma, {self.micro_kernel} takes them as stored.")
        if self.micro_kernel == "dpas":
            self._check_dpas()
        if self.micro_kernel == "mma":
            self._check_mma()
        if self.micro_kernel == "gemv":
            self._check_gemv()
        else:
            self._check_fma()

    def _check_dpas(self) -> None:
        if self.subgroup not in (8, 16):
            raise InvalidInputError(f"subgroup is {self.subgroup}; dpas has sub-groups of 8 or 16.")
        if self.subgroup_rows % DPAS_ROWS or self.tile_m % self.subgroup_rows or self.tile_k % DPAS_LOAD_K:
            raise InvalidInputError(
                f"tile_m {self.tile_m} must be a multiple of subgroup_rows {self.subgroup_rows}, that of {DPAS_ROWS}, "
                f"and tile_k {self.tile_k} of {DPAS_LOAD_K}."
            )
        wide, rest = divmod(self.local_size * self.subgroup_rows, self.subgroup * self.tile_m)
        if rest or not wide or self.tile_n % (2 * wide * self.subgroup):
            raise InvalidInputError(
                f"local_size {self.local_size} is {self.local_size / self.subgroup} sub-groups of {self.subgroup}: "
                f"they must share tile_m {self.tile_m} x tile_n {self.tile_n} evenly, with {self.subgroup_rows} rows "
                f"and an even number of {self.subgroup} columns for each."
            )

    def _check_mma(self) -> None:
        warps = (self.warps_m, self.warps_n, self.warps_k)
        if self.stages < 2 or self.local_size != MMA_WARP * math.prod(warps):
            raise InvalidInputError(
                f"local_size {self.local_size} must be {MMA_WARP} work-items for each of {' x '.join(map(str, warps))} "
                f"warps, and stages {self.stages} at least 2."
            )
        units = self.tile_k // MMA_UNIT
        if self.tile_k % (MMA_LOAD_K * self.warps_k) or units & (units - 1) or self.local_size % units:
            raise InvalidInputError(
                f"tile_k {self.tile_k} must be a power of two, a multiple of {MMA_LOAD_K} for each of "
                f"{self.warps_k} warps along K, and {MMA_UNIT} times a divisor of local_size {self.local_size}."
            )
        if self.packed and max(self.tile_n, self.local_size) % min(self.tile_n, self.local_size):
            raise InvalidInputError(
                f"With packed weights one of tile_n {self.tile_n}, local_size {self.local_size} must divide the other."
            )
        columns, rest = divmod(self.tile_n, MMA_COLUMNS * self.warps_n)
        if rest or columns < 2 or columns & (columns - 1) or self.tile_m % (MMA_ROWS * self.warps_m):
            raise InvalidInputError(
                f"tile_m {self.tile_m} must be a multiple of {MMA_ROWS} rows for each of {self.warps_m} warps, and "
                f"tile_n {self.tile_n} two, four, eight ... times {MMA_COLUMNS} columns for each of {self.warps_n}."
            )

    def _check_gemv(self) -> None:
        if self.tile_m not in GEMV_ROWS or self.subgroup not in (8, 16):
            raise InvalidInputError(
                f"gemv has tile_m {', '.join(map(str, GEMV_ROWS))} and sub-groups of 8 or 16, "
                f"not tile_m {self.tile_m} and subgroup {self.subgroup}."
            )
        if self.tile_n % (2 * GEMV_COLUMNS) or self.local_size % self.tile_n:
            raise InvalidInputError(
                f"tile_n {self.tile_n} must be a multiple of {2 * GEMV_COLUMNS} that divides local_size "
                f"{self.local_size}."
            )
        slices = 2 * self.local_size // self.tile_n  # of GateUp; Down has half of them
        if self.tile_k % (slices * GEMV_LOAD_K):
            raise InvalidInputError(
                f"tile_k {self.tile_k} must be a multiple of {GEMV_LOAD_K} for each of the {slices} slices of K, "
                f"2 * local_size / tile_n."
            )

    def _check_fma(self) -> None:
        if self.local_size % FMA_LANES or self.tile_m % (self.local_size // FMA_LANES):
            raise InvalidInputError(
                f"tile_m {self.tile_m} is no multiple of local_size / {FMA_LANES} = {self.local_size / FMA_LANES}."
            )
        if self.tile_n % (2 * FMA_LANES) or self.tile_k % 2:
            raise InvalidInputError(
                f"tile_n {self.tile_n} must be a multiple of {2 * FMA_LANES} and tile_k {self.tile_k} even."
            )

    def defines(self) -> dict[str, str]:
        """The preprocessor definitions that stand for this configuration."""
        values = {
            "TILE_M": str(self.tile_m),
            "TILE_N": str(self.tile_n),
            "TILE_K": str(self.tile_k),
            "SCHEDULE": "grid" if self.schedule == "grid" else self.fetch,
            "MICRO_KERNEL": self.micro_kernel,
            "SUBGROUP": str(self.subgroup),
            "SUBGROUP_ROWS": str(self.subgroup_rows),
            "DPAS_EMULATION": str(int(self.emulation)),
        }
        if self.micro_kernel == "mma":
            values |= {name: str(int(getattr(self, name.lower()))) for name in MMA_DEFINES}
            values["MMA_EMULATION"] = str(int(self.emulation))
        return values

    def compiler_options(self) -> tuple[str, ...]:
        """Options of the OpenCL compiler for stages that have a micro-kernel, beside the language's standard."""
        large = self.micro_kernel == "dpas" and not self.emulation and self.subgroup_rows >= DPAS_SUBGROUP_ROWS
        return (LARGE_REGISTERS,) if large else ()


@dataclass(frozen=True)
class ModelConfig:
    """The configurations of a model's kernels: for many tokens, and for few; ``why`` they have their micro-kernel."""

    prefill: KernelConfig
    decode: KernelConfig
    why: str = field(default="", compare=False, repr=False)

    def of(self, stage: Stage) -> KernelConfig:
        """The configuration that a stage is built with."""
        return self.decode if stage.decode else self.prefill
