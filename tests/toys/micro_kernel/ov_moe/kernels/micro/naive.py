"""Toy: a work-item a column, a plain loop over K."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.micro.base import MicroKernel
from ov_moe.spec import DeviceInfo, Workload


@dataclass(frozen=True, kw_only=True)
class Naive(MicroKernel):
    """4 rows of x times a column a work-item, of gate and up both."""

    tile_m: int = 4
    tile_n: int = 64
    tile_k: int = 2
    local_size: int = 64

    name: ClassVar[str] = "naive"
    sources: ClassVar[tuple[str, ...]] = ("tile_naive.cl",)
    words: ClassVar[tuple[str, ...]] = ("naive",)
    workload: ClassVar[str] = "to be read"

    def check(self) -> None:
        """Raise InvalidInputError for sizes that do not fit each other."""
        if self.tile_n % 64 or self.local_size != self.tile_n or self.tile_k != 2:
            raise InvalidInputError(
                f"naive has a multiple of 64 columns, tile_n {self.tile_n}, as many work-items, local_size "
                f"{self.local_size}, and tile_k 2."
            )

    @classmethod
    def unsuited(cls, workload: Workload, device: DeviceInfo) -> str | None:
        """Never."""
        return None

    @classmethod
    def tiles(cls, workload: Workload, device: DeviceInfo, word: str = "auto") -> Naive:
        """One size."""
        return cls()
