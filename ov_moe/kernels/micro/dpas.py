"""The micro-kernel for Intel XMX: f16 operands, fp32 sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.formats import wide_tables
from ov_moe.kernels.micro.base import MicroKernel
from ov_moe.kernels.micro.fma import check_tile
from ov_moe.spec import DeviceInfo, Workload

ROWS = 8  # of a fragment
SUBGROUP_ROWS = 32
LOAD_K = 32  # elements of K that one load of weights covers
# 32 rows of a sub-group: with 128 registers, sums and operands need 1 to 4 KiB of memory a thread; with 256, none.
LARGE_REGISTERS = "-cl-intel-256-GRF-per-thread"
EMULATED = "dpas-emulated"


@dataclass(frozen=True, kw_only=True)
class Dpas(MicroKernel):
    """Tiles of prefill on Arc; ``tiles`` has the others.

    Attributes:
        subgroup: Work-items of a sub-group: 8 up to Arc, 16 on Ponte Vecchio and from Xe2 on.
        subgroup_rows: Rows that a sub-group owns: turning integers into f16 pays from 32 on.
        emulation: Whether the matrix instruction is computed by sub-group operations, for devices without it.
    """

    tile_m: int = 2 * SUBGROUP_ROWS
    tile_n: int = 64
    tile_k: int = 32
    local_size: int = 64
    subgroup: int = 8
    subgroup_rows: int = SUBGROUP_ROWS
    emulation: bool = False

    name: ClassVar[str] = "dpas"
    sources: ClassVar[tuple[str, ...]] = ("weights_f16.cl", "tile_dpas.cl")
    words: ClassVar[tuple[str, ...]] = ("dpas", EMULATED)
    half_only: ClassVar[bool] = True
    workload: ClassVar[str] = "Intel GPUs with XMX and f16 activations, prefill and decode"

    def check(self) -> None:
        """Raise InvalidInputError for sizes that do not fit each other."""
        if self.subgroup not in (8, 16):
            raise InvalidInputError(f"subgroup is {self.subgroup}; dpas has sub-groups of 8 or 16.")
        if self.subgroup_rows % ROWS or self.tile_m % self.subgroup_rows or self.tile_k % LOAD_K:
            raise InvalidInputError(
                f"tile_m {self.tile_m} must be a multiple of subgroup_rows {self.subgroup_rows}, that of {ROWS}, "
                f"and tile_k {self.tile_k} of {LOAD_K}."
            )
        wide, rest = divmod(self.local_size * self.subgroup_rows, self.subgroup * self.tile_m)
        if rest or not wide or self.tile_n % (2 * wide * self.subgroup):
            raise InvalidInputError(
                f"local_size {self.local_size} is {self.local_size / self.subgroup} sub-groups of {self.subgroup}: "
                f"they must share tile_m {self.tile_m} x tile_n {self.tile_n} evenly, with {self.subgroup_rows} rows "
                f"and an even number of {self.subgroup} columns for each."
            )
        check_tile(self)

    def defines(self) -> dict[str, str]:
        """The preprocessor definitions that stand for it."""
        own = {"SUBGROUP": self.subgroup, "SUBGROUP_ROWS": self.subgroup_rows, "DPAS_EMULATION": int(self.emulation)}
        formats = wide_tables("F16", lambda row: row.f16)
        return {**super().defines(), **{name: str(value) for name, value in own.items()}, **formats}

    def options(self) -> tuple[str, ...]:
        """The large register file where a sub-group owns as many rows as need it."""
        return (LARGE_REGISTERS,) if not self.emulation and self.subgroup_rows >= SUBGROUP_ROWS else ()

    @classmethod
    def unsuited(cls, workload: Workload, device: DeviceInfo) -> str | None:
        """No XMX, or activations that it does not take."""
        if not device.xmx_subgroup:
            return "no XMX of a kind that ov-moe knows"
        return "activations are f32, and XMX takes f16" if workload.activations == "f32" else None

    @classmethod
    def because(cls, device: DeviceInfo, word: str) -> str:
        """Why it is taken."""
        if word == EMULATED:
            return "asked for as an emulation: sub-group broadcasts stand in for dpas, slow, for tests alone"
        # Every format of Qwen3 and GPT-OSS becomes f16 in registers; in decode XMX frees the vector units for that.
        return "asked for" if word != "auto" else f"XMX with sub-groups of {device.xmx_subgroup} and f16 activations"

    @classmethod
    def tiles(cls, workload: Workload, device: DeviceInfo, word: str = "auto") -> Dpas:
        """Tiles for sub-groups of 8 (Arc) or 16 (Xe2)."""
        if word == "dpas" and not device.xmx_subgroup:
            # Intel's compiler builds it all the same, and says that it succeeded: the kernel then holds no dpas.
            raise InvalidInputError(
                "micro_kernel is 'dpas', and the device has no XMX of a kind that ov-moe knows: leave it to 'auto' "
                "(for tests alone, 'dpas-emulated' computes the instruction by sub-group broadcasts, slowly)."
            )
        return cls.of(device.xmx_subgroup or 8, few=workload.few, emulation=word == EMULATED)

    @classmethod
    def of(cls, subgroup: int, few: bool = False, emulation: bool = False) -> Dpas:
        """Tiles for sub-groups of a size.

        Args:
            subgroup: Work-items of a sub-group.
            few: Whether they are for few tokens.
            emulation: As the field.
        """
        if few:
            # Decode (Qwen3 at 16 tokens, GPT-OSS at 8): the one fragment of rows that there is, in small groups.
            rows, tile_m, subgroups = ROWS, ROWS, 4
        else:
            # Prefill (Qwen3 at 512 tokens: 32 rows an expert, GPT-OSS: 64): an integer becomes f16 once for 32 rows,
            # and 64 rows x 32 or 64 pairs of columns are 8 sub-groups with two fragments of columns each.
            rows, tile_m, subgroups = SUBGROUP_ROWS, 2 * SUBGROUP_ROWS, 8
        return cls(
            subgroup=subgroup,
            subgroup_rows=rows,
            tile_m=tile_m,
            tile_n=8 * subgroup,
            local_size=subgroups * subgroup,
            emulation=emulation,
        )
