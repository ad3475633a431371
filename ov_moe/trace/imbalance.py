"""How uneven a routing is: one number for each question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ov_moe.trace.recording import Counts


@dataclass(frozen=True)
class Imbalance:
    """Of one layer, averaged over prefills.

    Attributes:
        max_over_mean: Rows of the fullest expert over the mean of all; 1 is balanced.
        gini: Gini coefficient of the rows: 0 balanced, near 1 where one expert has them all.
        empty: Experts without a row.
        padded: Share of the rows of all row tiles that no token fills.
    """

    max_over_mean: float
    gini: float
    empty: float
    padded: float


def imbalance(counts: Counts, tile: int) -> Imbalance:
    """Of one layer's rows [E] in one prefill, in tiles of ``tile`` rows; balanced where there is no row."""
    rows = int(counts.sum())
    if not rows:
        return Imbalance(1.0, 0.0, float(counts.size), 0.0)
    ranked = np.sort(counts).astype(np.float64)
    ranks = np.arange(1, counts.size + 1)
    gini = float((2 * ranks - counts.size - 1) @ ranked / (counts.size * rows))
    tiled = int((-(-counts // tile) * tile).sum())
    return Imbalance(float(counts.max() * counts.size / rows), gini, float((counts == 0).sum()), (tiled - rows) / tiled)


def over_prefills(prefills: Sequence[Counts], layer: int, tile: int) -> Imbalance:
    """The mean over prefills, each of which the kernels run by itself."""
    each = [imbalance(prefill[layer], tile) for prefill in prefills]
    return Imbalance(
        *(float(np.mean([getattr(one, name) for one in each])) for name in ("max_over_mean", "gini", "empty", "padded"))
    )
