"""What the tests of the micro-kernels share: how results are checked, and the values that a kernel may take."""

from __future__ import annotations

from dataclasses import replace

import bounds
import numpy as np
from blocks import POISON_INT, Block, Projection, Results, poison, same_bits

from ov_moe.kernels.micro import switch_words
from ov_moe.kernels.plan import D_WIDE, H_WIDE, TICKET_DOWN, TICKET_GATE_UP, PlanLayout

# Of the switch, as a refusal lists them.
WORDS = " or ".join(", ".join(map(repr, switch_words())).rsplit(", ", 1))


def rounded(block: Block) -> Block:
    """The block that the kernel computes: every weight rounded once to f16."""

    def once(part: Projection) -> Projection:
        return replace(part, dense=part.dense.astype(np.float16).astype(np.float64))

    return replace(block, gate=once(block.gate), up=None if block.up is None else once(block.up), down=once(block.down))


def check_results(block: Block, results: Results) -> None:
    """Nothing is written behind the last row, and y is the oracle's of ``block`` within its roundings."""
    plan = block.spec.plan_layout.view(results.plan)
    for array, used in ((results.h, plan.live_rows), (results.d, plan.live_rows), (results.y, plan.tokens)):
        assert same_bits(array[used:], np.full_like(array[used:], poison(array.dtype)))
    bounds.error(block, results.y).check()


def assert_same_plan(found: np.ndarray, expected: np.ndarray, layout: PlanLayout) -> None:
    """All that Route writes, piece by piece."""
    want, got = layout.view(expected), layout.view(found)
    assert (got.tokens, got.live_rows, got.tiles) == (want.tokens, want.live_rows, want.tiles)
    for name in ("row_offset", "tile_offset", "pair_of_row", "row_of_pair"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), name)
    assert not found[[H_WIDE, D_WIDE, TICKET_GATE_UP, TICKET_DOWN]].any()


def assert_rest_is_poison(found: np.ndarray, expected: np.ndarray, layout: PlanLayout) -> None:
    """What Route leaves alone."""
    want = layout.view(expected)
    behind_rows = found[layout.pair_of_row + want.live_rows : layout.row_of_pair]
    behind_pairs = found[layout.row_of_pair + want.tokens * layout.top_k :]
    assert (np.concatenate([behind_rows, behind_pairs]) == POISON_INT).all()


def assert_same(found: Results, expected: Results) -> None:
    """The same bits of h, d and y."""
    for name in ("h", "d", "y"):
        assert same_bits(getattr(found, name), getattr(expected, name)), name
