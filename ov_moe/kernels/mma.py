"""The micro-kernel for NVIDIA tensor cores: which blocks it can serve, and in which tiles, as measured on one H200."""

from __future__ import annotations

from dataclasses import replace

from ov_moe.kernels.block import FOUR_BIT, BlockSpec
from ov_moe.kernels.config import MMA_LOAD_K, MMA_WARP, KernelConfig
from ov_moe.spec import Activations, ProjectionSpec, Workload

LOCAL_BYTES = 48 * 1024  # what NVIDIA's OpenCL gives a group


def mma_refusal(spec: BlockSpec, activations: Activations) -> str | None:
    """Why the micro-kernel cannot serve a block; None where it can."""
    h, i = spec.hidden, spec.intermediate
    if activations != "f16":
        return f"activations are {activations}, tensor cores are fed f16"
    if h % MMA_LOAD_K or i % MMA_LOAD_K:
        return f"H = {h} and I = {i} must be multiples of {MMA_LOAD_K}"
    if spec.max_tokens * max(h, spec.top_k * max(h, i)) >= 2**32:
        return f"{spec.max_tokens} tokens exceed 32-bit offsets"
    parts = [spec.gate, spec.down] if spec.up is None else [spec.gate, spec.up, spec.down]
    if spec.up is not None and _format(spec.gate) != _format(spec.up):
        return f"gate ({spec.gate.label()}) and up ({spec.up.label()}) must have one format"
    for part in parts:
        if part.precision == "f32":
            return "weights are f32"
        if part.group_size and part.group_size % 8:
            return f"groups of {part.group_size} are no multiple of 8"
    return None


def can_pack(spec: BlockSpec) -> bool:
    """Whether the packed layout holds the block's weights."""
    parts = [spec.gate, spec.down] if spec.up is None else [spec.gate, spec.up, spec.down]
    return all(part.precision in FOUR_BIT for part in parts)


def _format(part: ProjectionSpec) -> tuple[str, int, bool]:
    return part.precision, part.group_size, part.zero_point


def mma_config(config: KernelConfig, workload: Workload, compute_units: int, packed: bool) -> KernelConfig:
    """The same schedule on tensor cores: average rows of an expert decide; both GEMMs share the height of a tile.

    Args:
        config: Of ``choose_config``.
        workload: What the kernel is for.
        compute_units: Multiprocessors of the device.
        packed: Whether the weights are packed.
    """
    rows, wide = workload.rows_per_expert, workload.hidden % 256 == 0 and workload.intermediate % 128 == 0
    four_bit = workload.precision in FOUR_BIT
    # Tile, warps (M, N, K), stages, unrolled 32s of K, groups that a multiprocessor holds.
    if not four_bit:
        # 8 and 16 bits: judged, not tuned; local memory holds two stages.
        shape = ((64, 128, 32), (1, 4, 1), 2, 4, 3)
    elif rows < 2:
        # Decode, Qwen3 at 1 to 16 tokens, GPT-OSS at 1 to 4: small tasks, K over two warps.
        shape = ((16, 64, 128), (1, 2, 2), 4, 1, 4)
    elif rows < 16 or (not packed and rows <= 64):
        # Few tokens, Qwen3 at 64 to 128, GPT-OSS at 16 to 64.
        shape = ((32, 128, 64), (1, 4, 1), 3, 4, 4)
    elif not packed and rows >= 128:
        # As stored, dequantisation is dearer: Qwen3 at 2048, then more rows for each weight.
        narrow = ((64, 256, 64), (1, 4, 1), 2, 4, 2)
        shape = narrow if wide and rows < 256 else ((128, 128, 64), (2, 2, 1), 2, 4, 2)
    elif wide and rows >= 128:
        # Prefill, Qwen3 from 2048 tokens on.
        shape = ((64, 256, 64), (1, 4, 1), 2, 4, 2)
    elif rows >= 512:
        # Prefill, GPT-OSS from 4096 tokens on.
        shape = ((128, 128, 64), (2, 2, 1), 2, 4, 2)
    else:
        # Prefill, Qwen3 at 512 to 1024, GPT-OSS at 128 to 2048: 2880 fills no blocks of 256 columns.
        shape = ((64, 128, 64), (1, 4, 1), 3, 1, 3)
    (tile_m, tile_n, tile_k), (warps_m, warps_n, warps_k), stages, unroll, groups = shape
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
        unroll=unroll,
        packed=packed and four_bit,
    )
