"""What a stage must do at least: floating-point operations, bytes, and how near to the device's limits it came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ov_moe.kernel_bench.weights import Stored, StoredBlock

STAGES = ("layer", "route", "gate_up", "down", "combine")

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Limits:
    """What the device was measured to do at most.

    Attributes:
        flops: FLOP/s of the fastest arithmetic that was tried.
        bandwidth: Bytes/s of a streaming read.
        arithmetic: Which kernel ``flops`` comes from, ``fma`` (fp32) or ``mma`` (f16 operands, fp32 sums).
    """

    flops: float
    bandwidth: float
    arithmetic: str


@dataclass(frozen=True)
class Cost:
    """Lower bounds of the work of a stage: ``flops`` and ``bytes``, each operand moved once."""

    flops: float
    bytes: float

    def bound(self, limits: Limits) -> tuple[str, float]:
        """(``compute`` or ``memory``, the seconds that it takes at that limit)."""
        compute, memory = self.flops / limits.flops, self.bytes / limits.bandwidth
        return ("compute", compute) if compute >= memory else ("memory", memory)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


def stage_cost(stage: str, block: StoredBlock, counts: Counts, tokens: int, element: int) -> Cost:
    """The cost of one of STAGES; the layer is the sum of the others. Only matrix products count as operations.

    Args:
        stage: One of STAGES.
        block: Its weights count for experts that have rows.
        counts: Rows of each expert.
        tokens: T.
        element: Bytes of an element of x, h, d and y.
    """
    if stage == "layer":
        total = Cost(0, 0)
        for name in STAGES[1:]:
            total += stage_cost(name, block, counts, tokens, element)
        return total
    spec, rows, active = block.spec, int(counts.sum()), int((counts > 0).sum())
    h, i = spec.hidden, spec.intermediate
    pairs = tokens * spec.top_k

    def weights(*parts: Stored | None) -> int:
        return active * sum(part.expert_bytes() for part in parts if part is not None)

    if stage == "route":
        return Cost(0, 4 * (3 * pairs + 2 * (spec.experts + 1)))  # ids; the permutation and its inverse; offsets
    if stage == "gate_up":
        return Cost(gemm_flops(h, i, rows) * 2 / 3, weights(block.gate, block.up) + element * (tokens * h + rows * i))
    if stage == "down":
        return Cost(gemm_flops(h, i, rows) / 3, weights(block.down) + element * (rows * i + rows * h))
    return Cost(0, element * (rows * h + tokens * h + pairs) + 4 * pairs)


def gemm_flops(hidden: int, intermediate: int, rows: int) -> float:
    """6 H I a row: three matrix products, a multiplication and an addition each."""
    return 6.0 * hidden * intermediate * rows


def padded_rows(counts: Counts, tile_m: int) -> int:
    """Rows of the tiles that hold no row of any token."""
    return int((-(-counts // tile_m) * tile_m - counts).sum())
