"""The micro-kernel for any device and type: multiply-adds in fp32, operands in local memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.micro.base import MicroKernel
from ov_moe.spec import DeviceInfo, Workload

LANES = 16
# Few tokens are about one row an expert (Qwen3 at 16 tokens, GPT-OSS at 8): the lowest tile of 128 work-items.
FEW_ROWS = 8


def check_tile(tile: MicroKernel) -> None:
    """Raise InvalidInputError unless fma can compute in a tile, its own or the one that it stands in for."""
    if tile.local_size % LANES or tile.tile_m % (tile.local_size // LANES):
        raise InvalidInputError(
            f"tile_m {tile.tile_m} is no multiple of local_size / {LANES} = {tile.local_size / LANES}."
        )
    if tile.tile_n % (2 * LANES) or tile.tile_k % 2:
        raise InvalidInputError(
            f"tile_n {tile.tile_n} must be a multiple of {2 * LANES} and tile_k {tile.tile_k} even."
        )


@dataclass(frozen=True, kw_only=True)
class Fma(MicroKernel):
    """Tiles of prefill (Qwen3 at 512 tokens); ``tiles`` has those of few tokens."""

    tile_m: int = 32
    tile_n: int = 64
    tile_k: int = 32
    local_size: int = 128

    name: ClassVar[str] = "fma"
    sources: ClassVar[tuple[str, ...]] = ("tile_fma.cl",)
    words: ClassVar[tuple[str, ...]] = ("fma",)
    workload: ClassVar[str] = "any device and type; prefill without XMX"

    def check(self) -> None:
        """Raise InvalidInputError for sizes that do not fit each other."""
        check_tile(self)

    @classmethod
    def unsuited(cls, workload: Workload, device: DeviceInfo) -> str | None:
        """Never: it is what remains."""
        return None

    @classmethod
    def tiles(cls, workload: Workload, device: DeviceInfo, word: str = "auto") -> Fma:
        """32 rows, and 8 where there are few tokens."""
        return cls(tile_m=FEW_ROWS) if workload.few else cls()
