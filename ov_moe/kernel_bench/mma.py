"""The micro-kernel for NVIDIA tensor cores: not the product's, for OpenVINO never runs it, but through its interface.

Which blocks it can serve, and in which tiles, as measured on one H200.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.formats import FORMATS, table
from ov_moe.kernels.micro import MicroKernel
from ov_moe.kernels.micro.fma import check_tile
from ov_moe.spec import Activations, DeviceInfo, Workload

# Rows and columns of a fragment, elements of K of one operand load, f16 of a 16-byte unit, work-items of a warp.
ROWS, COLUMNS, LOAD_K, UNIT, WARP = 16, 8, 32, 8, 32
# Rows of an expert from which packed weights are faster: at 8 (Qwen3, 128 tokens) the layer takes 0.218 ms packed and
# 0.205 as stored, at 16 (GPT-OSS, 128 tokens) 0.325 and 0.333, at 256 and more 0.92 to 0.95 times as long (H100).
PACK_ROWS = 16
_OWN_DEFINES = ("WARPS_M", "WARPS_N", "WARPS_K", "STAGES", "PACKED")


@dataclass(frozen=True, kw_only=True)
class Mma(MicroKernel):
    """Tiles of a few rows an expert; ``tiles`` has the others.

    Attributes:
        warps_m: Warps along the rows of a tile, each of 32 work-items.
        warps_n: Along its columns.
        warps_k: Along K.
        stages: Depth of the copies to local memory.
        packed: Whether it finds 4-bit weights as ov_moe.kernel_bench.pack lays them out, not as stored.
        emulation: Whether PTX is computed by OpenCL C, for devices that are not NVIDIA's.
    """

    tile_m: int = 32
    tile_n: int = 128
    tile_k: int = 64
    local_size: int = 128
    warps_m: int = 1
    warps_n: int = 4
    warps_k: int = 1
    stages: int = 3
    packed: bool = False
    emulation: bool = False

    name: ClassVar[str] = "mma"
    sources: ClassVar[tuple[str, ...]] = tuple(
        f"ov_moe.kernel_bench:cl/{name}.cl" for name in ("mma_ptx", "mma_emulation", "mma_weights", "tile_mma")
    )
    half_only: ClassVar[bool] = True
    workload: ClassVar[str] = "NVIDIA GPUs with tensor cores and f16 activations; the kernel benchmark alone"

    def check(self) -> None:
        """Raise InvalidInputError for sizes that do not fit each other."""
        warps = (self.warps_m, self.warps_n, self.warps_k)
        if self.stages < 2 or self.local_size != WARP * math.prod(warps):
            raise InvalidInputError(
                f"local_size {self.local_size} must be {WARP} work-items for each of {' x '.join(map(str, warps))} "
                f"warps, and stages {self.stages} at least 2."
            )
        units = self.tile_k // UNIT
        if self.tile_k % (LOAD_K * self.warps_k) or units & (units - 1) or self.local_size % units:
            raise InvalidInputError(
                f"tile_k {self.tile_k} must be a power of two, a multiple of {LOAD_K} for each of "
                f"{self.warps_k} warps along K, and {UNIT} times a divisor of local_size {self.local_size}."
            )
        if self.packed and max(self.tile_n, self.local_size) % min(self.tile_n, self.local_size):
            raise InvalidInputError(
                f"With packed weights one of tile_n {self.tile_n}, local_size {self.local_size} must divide the other."
            )
        columns, rest = divmod(self.tile_n, COLUMNS * self.warps_n)
        if rest or columns < 2 or columns & (columns - 1) or self.tile_m % (ROWS * self.warps_m):
            raise InvalidInputError(
                f"tile_m {self.tile_m} must be a multiple of {ROWS} rows for each of {self.warps_m} warps, and "
                f"tile_n {self.tile_n} two, four, eight ... times {COLUMNS} columns for each of {self.warps_n}."
            )
        check_tile(self)

    def defines(self) -> dict[str, str]:
        """The preprocessor definitions that stand for it."""
        own = {name: str(int(getattr(self, name.lower()))) for name in _OWN_DEFINES}
        formats = {
            **table("BITS", lambda row: min(row.bits, 16)),
            **table("FLIP", lambda row: f"{row.f16.flip if row.f16 else 0:#x}u"),
            **table("IS_E2M1", lambda row: int(row.name == "f4e2m1")),
        }
        return {**super().defines(), **own, "MMA_EMULATION": str(int(self.emulation)), **formats}

    def refuses_rows(self, dtype: str) -> str | None:
        """Packed weights where fma stands in, which reads them as they are stored."""
        return "takes weights as they are stored, not packed ones" if self.packed and dtype != "float16" else None

    @classmethod
    def refuses(cls, block: BlockSpec, activations: Activations) -> str | None:
        """Why it cannot serve a block; None where it can."""
        h, i, gate, up = block.hidden, block.intermediate, block.gate, block.up
        parts = (gate, block.down) if up is None else (gate, up, block.down)
        same = up is None or replace(up, n=gate.n) == gate
        rules = (
            (activations == "f16", f"activations are {activations}, and tensor cores take f16"),
            (h % LOAD_K == i % LOAD_K == 0, f"H = {h} and I = {i} must be multiples of {LOAD_K}"),
            (
                block.max_tokens * max(h, block.top_k * max(h, i)) < 2**32,
                f"{block.max_tokens} tokens exceed 32-bit offsets",
            ),
            (same, f"gate ({gate.label()}) and up ({up.label() if up else ''}) must have one format"),
            (all(part.precision != "f32" for part in parts), "weights are f32"),
            (
                all(FORMATS[part.precision].codes is None or part.precision == "f4e2m1" for part in parts),
                "of weights that are no integers it takes f4e2m1 alone",
            ),
            (all(part.group_size % LOAD_K == 0 for part in parts), f"groups must be multiples of {LOAD_K} weights"),
        )
        return next((reason for holds, reason in rules if not holds), None)

    @classmethod
    def unsuited(cls, workload: Workload, device: DeviceInfo) -> str | None:
        """Another vendor's device."""
        return None if device.vendor == "nvidia" else "the device is no NVIDIA GPU"

    @classmethod
    def tiles(cls, workload: Workload, device: DeviceInfo, word: str = "auto", packed: bool = False) -> Mma:
        """Tiles by the average rows of an expert; both GEMMs share the height of a tile.

        Args:
            workload: What the kernel is for.
            device: Where it runs.
            word: Nobody asks for it by a switch.
            packed: Whether the weights are packed; only 4-bit ones are.
        """
        (tile_m, tile_n, tile_k), (warps_m, warps_n, warps_k), stages, _ = _shape(workload, packed)
        return cls(
            tile_m=tile_m,
            tile_n=tile_n,
            tile_k=tile_k,
            local_size=WARP * warps_m * warps_n * warps_k,
            warps_m=warps_m,
            warps_n=warps_n,
            warps_k=warps_k,
            stages=stages,
            packed=packed and FORMATS[workload.precision].packed,
        )

    @classmethod
    def placed(
        cls,
        config: KernelConfig,
        workload: Workload,
        device: DeviceInfo,
        word: str = "auto",
        packed: bool = False,
    ) -> KernelConfig:
        """The same schedule with it, as many groups as a multiprocessor holds, and Route in its sizes."""
        return replace(
            config,
            micro=cls.tiles(workload, device, word, packed),
            groups=device.compute_units * _shape(workload, packed)[3],
            route_size=256 if workload.tokens * workload.top_k <= 256 else 1024,
        )


_Shape = tuple[tuple[int, int, int], tuple[int, int, int], int, int]


def _shape(workload: Workload, packed: bool) -> _Shape:
    """Tile, warps (M, N, K), stages, groups that a multiprocessor holds."""
    rows = workload.rows_per_expert
    if not FORMATS[workload.precision].packed:
        # 8 and 16 bits: judged, not tuned; local memory holds two stages.
        return (64, 128, 32), (1, 4, 1), 2, 3
    if rows < 2:
        # Decode, Qwen3 at 1 to 16 tokens, GPT-OSS at 1 to 4: small tasks, K over two warps.
        return (16, 64, 128), (1, 2, 2), 4, 4
    if rows < 16 or (not packed and rows <= 64):
        # Few tokens, Qwen3 at 64 to 128, GPT-OSS at 16 to 64: 4 groups took 1.1 times as long as 6 or more.
        return (32, 128, 64), (1, 4, 1), 3, 7
    if rows < 96 or not packed:
        # Qwen3 at 256 to 1024, GPT-OSS at 128 to 512: padded rows cost more than reading x twice as often. As stored,
        # weights take a third of the loads of local memory, and wider tiles do not pay at any number of tokens.
        return (64, 128, 64), (1, 4, 1), 3, 3
    if rows < 256:
        # Qwen3 at 2048, GPT-OSS at 1024: what limits is how often x is read, once for each block of columns.
        return (64, 256, 64), (1, 4, 1), 2, 2
    # Qwen3 from 4096 tokens on, GPT-OSS from 2048: a warp of 128 rows turns each weight into f16 once for them all.
    return (128, 128, 64), (1, 4, 1), 2, 2


def can_pack(block: BlockSpec) -> bool:
    """Whether the packed layout holds the block's weights."""
    parts = (block.gate, block.down) if block.up is None else (block.gate, block.up, block.down)
    return all(FORMATS[part.precision].packed for part in parts)
