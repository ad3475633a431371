"""The micro-kernel for NVIDIA tensor cores: which blocks it can serve, and in which tiles, as measured on one H200."""

from __future__ import annotations

from dataclasses import replace

from ov_moe.kernels.attributes import FOUR_BIT
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.config import MMA_LOAD_K, MMA_WARP, KernelConfig
from ov_moe.spec import Activations, Workload


def mma_refusal(spec: BlockSpec, activations: Activations) -> str | None:
    """Why the micro-kernel cannot serve a block; None where it can."""
    h, i, gate, up = spec.hidden, spec.intermediate, spec.gate, spec.up
    parts = (gate, spec.down) if up is None else (gate, up, spec.down)
    same = up is None or replace(up, n=gate.n) == gate
    rules = (
        (activations == "f16", f"activations are {activations}, and tensor cores take f16"),
        (h % MMA_LOAD_K == i % MMA_LOAD_K == 0, f"H = {h} and I = {i} must be multiples of {MMA_LOAD_K}"),
        (spec.max_tokens * max(h, spec.top_k * max(h, i)) < 2**32, f"{spec.max_tokens} tokens exceed 32-bit offsets"),
        (same, f"gate ({gate.label()}) and up ({up.label() if up else ''}) must have one format"),
        (all(part.precision != "f32" for part in parts), "weights are f32"),
        (all(part.group_size % MMA_LOAD_K == 0 for part in parts), f"groups must be multiples of {MMA_LOAD_K} weights"),
    )
    return next((reason for holds, reason in rules if not holds), None)


# Rows of an expert from which packed weights are faster: at 8 (Qwen3, 128 tokens) the layer takes 0.218 ms packed and
# 0.205 as stored, at 16 (GPT-OSS, 128 tokens) 0.325 and 0.333, at 256 and more 0.92 to 0.95 times as long (H100).
PACK_ROWS = 16


def can_pack(spec: BlockSpec) -> bool:
    """Whether the packed layout holds the block's weights."""
    parts = (spec.gate, spec.down) if spec.up is None else (spec.gate, spec.up, spec.down)
    return all(part.precision in FOUR_BIT for part in parts)


def mma_config(config: KernelConfig, workload: Workload, compute_units: int, packed: bool) -> KernelConfig:
    """The same schedule on tensor cores: average rows of an expert decide; both GEMMs share the height of a tile.

    Args:
        config: Of ``choose_config``.
        workload: What the kernel is for.
        compute_units: Multiprocessors of the device.
        packed: Whether the weights are packed.
    """
    rows, four_bit = workload.rows_per_expert, workload.precision in FOUR_BIT
    # Tile, warps (M, N, K), stages, groups that a multiprocessor holds.
    if not four_bit:
        # 8 and 16 bits: judged, not tuned; local memory holds two stages.
        shape = ((64, 128, 32), (1, 4, 1), 2, 3)
    elif rows < 2:
        # Decode, Qwen3 at 1 to 16 tokens, GPT-OSS at 1 to 4: small tasks, K over two warps.
        shape = ((16, 64, 128), (1, 2, 2), 4, 4)
    elif rows < 16 or (not packed and rows <= 64):
        # Few tokens, Qwen3 at 64 to 128, GPT-OSS at 16 to 64: 4 groups took 1.1 times as long as 6 or more.
        shape = ((32, 128, 64), (1, 4, 1), 3, 7)
    elif rows < 96 or not packed:
        # Qwen3 at 256 to 1024, GPT-OSS at 128 to 512: padded rows cost more than reading x twice as often. As stored,
        # weights take a third of the loads of local memory, and wider tiles do not pay at any number of tokens.
        shape = ((64, 128, 64), (1, 4, 1), 3, 3)
    elif rows < 256:
        # Qwen3 at 2048, GPT-OSS at 1024: what limits is how often x is read, once for each block of columns.
        shape = ((64, 256, 64), (1, 4, 1), 2, 2)
    else:
        # Qwen3 from 4096 tokens on, GPT-OSS from 2048: a warp of 128 rows turns each weight into f16 once for them all.
        shape = ((128, 128, 64), (1, 4, 1), 2, 2)
    (tile_m, tile_n, tile_k), (warps_m, warps_n, warps_k), stages, groups = shape
    return replace(
        config,
        micro_kernel="mma",
        groups=compute_units * groups,
        tile_m=tile_m,
        tile_n=tile_n,
        tile_k=tile_k,
        local_size=MMA_WARP * warps_m * warps_n * warps_k,
        route_size=256 if workload.tokens * workload.top_k <= 256 else 1024,
        warps_m=warps_m,
        warps_n=warps_n,
        warps_k=warps_k,
        stages=stages,
        packed=packed and four_bit,
    )
