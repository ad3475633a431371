"""The tile of the mma micro-kernel for a block: a pure function of the description, measured on one H200."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MmaTile:
    """Sizes of one group's tile and how its warps share it out; ``why`` names the workload that asked for it.

    Attributes:
        tile_m: Rows.
        tile_n: Columns (GateUp: half of them gate, half up).
        tile_k: Elements of K in one stage.
        warps: (M, N, K).
        stages: Stages in local memory.
        unroll: 32s of K in one body of the loop.
        groups_per_cu: Persistent groups that one compute unit holds.
        why: The workload.
    """

    tile_m: int
    tile_n: int
    tile_k: int
    warps: tuple[int, int, int]
    stages: int
    unroll: int
    groups_per_cu: int
    why: str

    @property
    def local_size(self) -> int:
        """Work-items of a group."""
        return 32 * self.warps[0] * self.warps[1] * self.warps[2]

    def defines(self) -> dict[str, str]:
        """The preprocessor definitions."""
        values = dict(
            TILE_M=self.tile_m,
            TILE_N=self.tile_n,
            TILE_K=self.tile_k,
            WARPS_M=self.warps[0],
            WARPS_N=self.warps[1],
            WARPS_K=self.warps[2],
            STAGES=self.stages,
            UNROLL_SUBS=self.unroll,
            LOCAL_SIZE=self.local_size,
        )
        return {**{name: str(value) for name, value in values.items()}, "W_PREFETCH": '".L2::128B"'}


def mma_refusal(hidden: int, intermediate: int, precision: str, group: int, activations: str) -> str | None:
    """Why the micro-kernel cannot serve a block; None where it can."""
    if activations != "f16":
        return f"activations are {activations}, the tensor cores are fed f16"
    if hidden % 32 or intermediate % 32:
        return f"H = {hidden} and I = {intermediate} must be multiples of 32 (16-byte copies along K)"
    if precision not in ("u4", "i4", "u8", "i8", "f16"):
        return f"weights are {precision}"
    if group and group % 8:
        return f"quantisation groups of {group} are no multiple of 8"
    return None


def choose_mma_tile(
    tokens: int, experts: int, top_k: int, hidden: int, intermediate: int, packed: bool, bits: int = 4
) -> MmaTile:
    """The tile for a block of up to ``tokens`` tokens: average rows of an expert decide.

    Both GEMMs of a block share tile_m: the plan counts row tiles once.
    """
    rows = tokens * top_k / experts
    wide = hidden % 256 == 0 and 2 * intermediate % 256 == 0
    if bits > 4:
        # 8 and 16 bits: judged, not tuned; 48 KiB of local memory hold two stages of these.
        return MmaTile(64, 128, 32, (1, 4, 1), 2, 4, 3, f"{bits}-bit weights")
    if rows < 2:
        return MmaTile(
            16, 64, 128, (1, 2, 2), 4, 1, 4, "decode: Qwen3 T=1..16, GPT-OSS T=1..4; K over two warps, small tasks"
        )
    if rows < 16 or (not packed and rows <= 64):
        return MmaTile(
            32, 128, 64, (1, 4, 1), 3, 4, 4, "few tokens: Qwen3 T=64..128, GPT-OSS T=16..64 (as stored: up to 64 rows)"
        )
    if not packed and rows >= 128:
        if wide and rows < 256:
            return MmaTile(64, 256, 64, (1, 4, 1), 2, 4, 2, "as stored, Qwen3 T=2048")
        return MmaTile(
            128, 128, 64, (2, 2, 1), 2, 4, 2, "as stored, T>=4096: dequantisation shared by 64 rows of a warp"
        )
    if wide and rows >= 128:
        return MmaTile(64, 256, 64, (1, 4, 1), 2, 4, 2, "prefill: Qwen3 T>=2048")
    if rows >= 512:
        return MmaTile(128, 128, 64, (2, 2, 1), 2, 4, 2, "prefill: GPT-OSS T>=4096")
    return MmaTile(
        64,
        128,
        64,
        (1, 4, 1),
        3,
        1,
        3,
        "prefill: Qwen3 T=512..1024, GPT-OSS T=128..2048 (2880 fills no 256-wide blocks)",
    )


if __name__ == "__main__":
    for name, e, k, h, i in (("qwen3", 128, 8, 2048, 768), ("gptoss", 32, 4, 2880, 2880)):
        for packed in (True, False):
            for t in (1, 4, 16, 64, 128, 512, 1024, 2048, 4096, 8192):
                c = choose_mma_tile(t, e, k, h, i, packed)
                print(name, "packed" if packed else "stored", t, c)
