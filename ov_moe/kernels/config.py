"""From the device and the user's switch to a kernel configuration: a pure function with a printable result."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.stages import Stage
from ov_moe.spec import Balance, Fetch, MicroKernel, Schedule

# Upstream's switch (OpenVINO pull request 33922) balances from 64 experts on.
AUTO_BALANCE_EXPERTS = 64
# Persistent groups for each execution unit of an Intel GPU, which holds 7 or 8 threads of 8 to 32 work-items: more than
# run at once, so that none is idle while groups end at different times.
OVER_PROVISION = 2
FMA_LANES = 16
DPAS_ROWS = 8
DPAS_SUBGROUP_ROWS = 32
DPAS_LOAD_K = 32  # elements of K that one load of weights covers
# 32 rows of a sub-group: with 128 registers, sums and operands need 1 to 4 KiB of memory a thread; with 256, none.
LARGE_REGISTERS = "-cl-intel-256-GRF-per-thread"
# Few tokens are about one row an expert: 8 is the lowest tile of 128 work-items.
DECODE_TILE_M = 8


@dataclass(frozen=True)
class KernelConfig:
    """What the composed programs are built with; the same for every MoE block of a model.

    Attributes:
        schedule: ``grid`` or ``pool``.
        fetch: How a pool group takes its next task.
        groups: Work-groups of the pool, and of Combine.
        tile_m: Rows of a task.
        tile_n: Columns of a task (GateUp: half of them gate, half up).
        tile_k: Elements of K that stand in local memory at a time.
        local_size: Work-items of a group.
        micro_kernel: What multiplies the tiles: ``fma`` (any device) or ``dpas`` (Intel XMX, f16 buffers).
        subgroup: Work-items of a sub-group of ``dpas``: 8 on Arc, 16 on Ponte Vecchio and from Xe2 on.
        subgroup_rows: Rows that a sub-group of ``dpas`` owns: turning integers into f16 pays from 32 on.
        emulation: Whether the dpas instruction is computed by sub-group broadcasts, for devices without XMX.
    """

    schedule: Schedule
    fetch: Fetch
    groups: int
    tile_m: int = 32
    tile_n: int = 64
    tile_k: int = 32
    local_size: int = 128
    micro_kernel: MicroKernel = "fma"
    subgroup: int = 8
    subgroup_rows: int = 32
    emulation: bool = False

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise InvalidInputError(f"A pool of {self.groups} work-groups cannot run: ask for at least 1.")
        if self.micro_kernel == "dpas":
            self._check_dpas()
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
        return {
            "TILE_M": str(self.tile_m),
            "TILE_N": str(self.tile_n),
            "TILE_K": str(self.tile_k),
            "LOCAL_SIZE": str(self.local_size),
            "SCHEDULE": "grid" if self.schedule == "grid" else self.fetch,
            "MICRO_KERNEL": self.micro_kernel,
            "SUBGROUP": str(self.subgroup),
            "SUBGROUP_ROWS": str(self.subgroup_rows),
            "DPAS_EMULATION": str(int(self.emulation)),
        }

    def compiler_options(self) -> tuple[str, ...]:
        """Options of the OpenCL compiler."""
        large = self.micro_kernel == "dpas" and self.subgroup_rows >= DPAS_SUBGROUP_ROWS
        return ("-cl-std=CL2.0", LARGE_REGISTERS) if large else ("-cl-std=CL2.0",)


@dataclass(frozen=True)
class ModelConfig:
    """The configurations of a model's kernels: for many tokens, and for few."""

    prefill: KernelConfig
    decode: KernelConfig

    def of(self, stage: Stage) -> KernelConfig:
        """The configuration that a stage is built with."""
        return self.decode if stage.decode else self.prefill


def choose_schedule(balance: Balance, experts: int) -> Schedule:
    """off -> grid, on -> pool, auto -> pool from AUTO_BALANCE_EXPERTS experts on.

    Raises InvalidInputError for any other word.
    """
    if balance == "auto":
        return "pool" if experts >= AUTO_BALANCE_EXPERTS else "grid"
    if balance not in ("on", "off"):
        raise InvalidInputError(f"balance is {balance!r}, it must be 'auto', 'on' or 'off'.")
    return "pool" if balance == "on" else "grid"


def choose_config(
    balance: Balance,
    experts: int,
    compute_units: int,
    fetch: Fetch = "ticket",
    groups: int | None = None,
) -> KernelConfig:
    """The configuration for a device.

    Args:
        balance: The user's switch.
        experts: Largest number of experts of any block in the model.
        compute_units: Of the device: execution units of an Intel GPU, CL_DEVICE_MAX_COMPUTE_UNITS elsewhere.
        fetch: How a pool group takes its next task; ``stride`` is for ablation.
        groups: Work-groups of the pool, instead of compute_units * OVER_PROVISION.
    """
    if fetch not in ("ticket", "stride"):
        raise InvalidInputError(f"fetch is {fetch!r}, it must be 'ticket' or 'stride'.")
    count = compute_units * OVER_PROVISION if groups is None else groups
    return KernelConfig(schedule=choose_schedule(balance, experts), fetch=fetch, groups=count)


def dpas_config(config: KernelConfig, subgroup: int) -> KernelConfig:
    """The same schedule with the micro-kernel for XMX, in tiles for sub-groups of 8 (Arc) or 16 (Xe2).

    8 sub-groups of 32 rows and two fragments of columns: 64 rows x 32 or 64 pairs; a configuration for few tokens
    keeps its low tile: 4 sub-groups of 8 rows. Buffers must be f16: with f32 activations, keep ``fma``.
    """
    low = config.tile_m < DPAS_SUBGROUP_ROWS
    rows, tile_m, subgroups = (DPAS_ROWS, DPAS_ROWS, 4) if low else (DPAS_SUBGROUP_ROWS, 2 * DPAS_SUBGROUP_ROWS, 8)
    return replace(
        config,
        micro_kernel="dpas",
        subgroup=subgroup,
        subgroup_rows=rows,
        tile_m=tile_m,
        tile_n=8 * subgroup,
        local_size=subgroups * subgroup,
    )


def choose_model_config(
    balance: Balance,
    experts: int,
    compute_units: int,
    fetch: Fetch = "ticket",
    groups: int | None = None,
) -> ModelConfig:
    """The configurations for a device; arguments as for ``choose_config``.

    Balance and fetch are for prefill: few tokens always run on a pool with tickets, which launches no empty groups.
    """
    prefill = choose_config(balance, experts, compute_units, fetch, groups)
    return ModelConfig(prefill, KernelConfig("pool", "ticket", prefill.groups, tile_m=DECODE_TILE_M))
