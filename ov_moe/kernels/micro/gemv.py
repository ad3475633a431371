"""The micro-kernel for few rows on devices without matrix instructions, where reading the weights takes the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.formats import table, wide_tables
from ov_moe.kernels.micro.base import MicroKernel
from ov_moe.spec import DeviceInfo, Workload

ROWS = (1, 2, 4, 8)
COLUMNS = 16  # of a slice and a part: whole sub-groups
LOAD_K = 32  # elements of K that a work-item takes at a time
# Average rows of an expert up to which gemv serves few tokens: with the room of 64 Qwen3 has 4, GPT-OSS 8, Mixtral 16.
# On an H100 fma takes 5.7 times as long at 1 token of Qwen3, 2.9 times at 8 rows an expert (Qwen3, 128 tokens), and 1.6
# times at 16 (GPT-OSS, 128 tokens, its better tile). Not measured on an Intel GPU.
MAX_ROWS = 16


@dataclass(frozen=True, kw_only=True)
class Gemv(MicroKernel):
    """In decode (Qwen3 at 16 tokens) 192 tasks of GateUp at one token.

    32 gate and 32 up columns x 4 slices of K, or 64 columns of Down x 2, are 128 work-items.

    Attributes:
        subgroup: Work-items of a sub-group: 8, or 16 where the device has none of 8. Of 16 on a GPU whose registers
            have 32 bytes, Xe-LP and Arc among them, 8 rows of gate and up spill.
    """

    tile_m: int = 8
    tile_n: int = 64
    tile_k: int = 256
    local_size: int = 128
    subgroup: int = 8

    name: ClassVar[str] = "gemv"
    sources: ClassVar[tuple[str, ...]] = ("weights_f32.cl", "tile_gemv.cl")
    workload: ClassVar[str] = "decode without XMX: at most 16 rows an expert on average"

    def check(self) -> None:
        """Raise InvalidInputError for sizes that do not fit each other."""
        if self.tile_m not in ROWS or self.subgroup not in (8, 16):
            raise InvalidInputError(
                f"gemv has tile_m {', '.join(map(str, ROWS))} and sub-groups of 8 or 16, "
                f"not tile_m {self.tile_m} and subgroup {self.subgroup}."
            )
        if self.tile_n % (2 * COLUMNS) or self.local_size % self.tile_n:
            raise InvalidInputError(
                f"tile_n {self.tile_n} must be a multiple of {2 * COLUMNS} that divides local_size {self.local_size}."
            )
        slices = 2 * self.local_size // self.tile_n  # of GateUp; Down has half of them
        if self.tile_k % (slices * LOAD_K):
            raise InvalidInputError(
                f"tile_k {self.tile_k} must be a multiple of {LOAD_K} for each of the {slices} slices of K, "
                f"2 * local_size / tile_n."
            )

    def defines(self) -> dict[str, str]:
        """The preprocessor definitions that stand for it."""
        formats = {**wide_tables("F32", lambda row: row.f32), **table("PER_BYTE", lambda row: 1 + row.packed)}
        return {**super().defines(), "SUBGROUP": str(self.subgroup), **formats}

    @classmethod
    def unsuited(cls, workload: Workload, device: DeviceInfo) -> str | None:
        """Many tokens, or too many rows an expert."""
        if workload.few and workload.rows_per_expert <= MAX_ROWS:
            return None
        return f"more than {MAX_ROWS} rows an expert" if workload.few else "many tokens"

    @classmethod
    def tiles(cls, workload: Workload, device: DeviceInfo, word: str = "auto") -> Gemv:
        """One size, in the device's sub-groups."""
        return cls(subgroup=device.subgroup)
