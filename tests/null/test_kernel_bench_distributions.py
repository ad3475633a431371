"""The benchmark's routings: exact counts, no repeat within a token, the same seed the same ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench.distributions import NAMES, counts_of, draw_ids, place
from ov_moe.kernel_bench.recorded import read_table, scale_counts

SIZES = [(1, 1, 1), (1, 32, 4), (7, 32, 4), (100, 32, 32), (513, 32, 10)]


def assert_distinct(ids: np.ndarray, experts: int) -> None:
    assert ids.dtype == np.int32
    assert ids.flags.c_contiguous
    assert ids.min() >= 0
    assert ids.max() < experts
    ordered = np.sort(ids, axis=1)
    assert (ordered[:, 1:] != ordered[:, :-1]).all()


@pytest.mark.parametrize("name", [*NAMES[:-1], "power0", "power30"])
@pytest.mark.parametrize(("tokens", "experts", "top_k"), SIZES)
def test_ids_are_distinct_within_a_token_and_repeat_with_the_seed(
    name: str, tokens: int, experts: int, top_k: int
) -> None:
    ids = draw_ids(name, tokens, experts, top_k, 3)
    assert ids.shape == (tokens, top_k)
    assert_distinct(ids, experts)
    np.testing.assert_array_equal(ids, draw_ids(name, tokens, experts, top_k, 3))
    if experts > top_k:
        assert (ids != draw_ids(name, tokens, experts, top_k, 4)).any() or tokens == 1


@pytest.mark.parametrize(("tokens", "experts", "top_k"), SIZES)
def test_balanced_counts_differ_by_one_at_most(tokens: int, experts: int, top_k: int) -> None:
    counts = counts_of(draw_ids("balanced", tokens, experts, top_k, 0), experts)
    assert counts.max() - counts.min() <= 1
    assert counts.sum() == tokens * top_k


def test_power_law_has_its_frequencies() -> None:
    """One slot: expert of rank r has a share of r^-1.2 / sum; five standard deviations of a binomial are allowed."""
    tokens, experts = 200_000, 32
    weights = np.arange(1, experts + 1) ** -1.2
    share = weights / weights.sum()
    counts = np.sort(counts_of(draw_ids("power1.2", tokens, experts, 1, 0), experts))[::-1]
    assert (np.abs(counts - tokens * share) <= 5 * np.sqrt(tokens * share * (1 - share)) + 30).all()


def test_hot_and_worst() -> None:
    hot = np.sort(counts_of(draw_ids("hot", 1000, 64, 6, 1), 64))
    assert hot[-1] == 1000
    assert hot[-2] < 140  # 5000 rows over 63 experts
    worst = counts_of(draw_ids("worst", 1000, 64, 6, 1), 64)
    assert sorted(worst)[-6:] == [1000] * 6
    assert worst.sum() == 6000


def test_placed_counts_are_exact(rng: np.random.Generator) -> None:
    """Random feasible counts, with experts that every token has and experts that none has."""
    for _ in range(50):
        tokens, experts, top_k = int(rng.integers(1, 60)), 12, int(rng.integers(1, 12))
        counts = scale_counts(rng.integers(0, 100, experts) ** 2 + 1, tokens, top_k)
        ids = place(rng, counts, tokens, top_k)
        assert_distinct(ids, experts)
        np.testing.assert_array_equal(counts_of(ids, experts), counts)


def test_counts_that_cannot_be_placed_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(InvalidInputError, match="counts with sum 7 and largest 4 cannot be 3 tokens"):
        place(rng, np.array([4, 3, 0]), 3, 2)


@pytest.mark.parametrize("layer", range(1, 24))
def test_recorded_counts_are_exact_at_their_own_size(layer: int) -> None:
    ids = draw_ids(f"recorded:@{layer}", 2012, 32, 4, 0)
    assert_distinct(ids, 32)
    np.testing.assert_array_equal(counts_of(ids, 32), read_table("")[str(layer)])


@pytest.mark.parametrize("tokens", [1, 16, 1000, 1882, 8192])
@pytest.mark.parametrize("layer", ["0", "12", "23", ""])
def test_recorded_counts_scale_to_any_number_of_tokens(layer: str, tokens: int) -> None:
    """Layer 0 does not sum to whole tokens. Proportions stay, within a row, where no expert is full."""
    ids = draw_ids(f"recorded:@{layer}" if layer else "recorded", tokens, 32, 4, 0)
    assert_distinct(ids, 32)
    found = counts_of(ids, 32)
    if layer:
        recorded = read_table("")[layer]
        exact = recorded * (tokens * 4 / recorded.sum())
        assert exact.max() > tokens or np.abs(found - exact).max() < 1


def test_a_full_expert_hands_its_surplus_on() -> None:
    np.testing.assert_array_equal(scale_counts(np.array([98, 1, 1, 0]), 10, 2), [10, 5, 5, 0])
    np.testing.assert_array_equal(scale_counts(np.array([9, 0, 0]), 4, 2), [4, 2, 2])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("zipf", "distribution 'zipf' is unknown: use balanced"),
        ("hot:3", "distribution 'hot:3' is unknown"),
        ("powerful", "'powerful' needs a number"),
        ("power-1", "'power-1' needs a number"),
        ("recorded:nowhere.csv", "the recording 'nowhere.csv' cannot be read"),
        ("recorded:@24", "has no layer '24', only 0, 1"),
    ],
)
def test_a_wrong_name_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        draw_ids(name, 8, 32, 4, 0)


def test_a_wrong_size_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="top-k is 9: a token needs between 1 and 8"):
        draw_ids("uniform", 8, 8, 9, 0)
    with pytest.raises(InvalidInputError, match="records 32 experts and the shape has 128"):
        draw_ids("recorded", 8, 128, 8, 0)


@pytest.mark.parametrize(
    "text",
    ["", "layer\n", "layer,expert_0\n", "expert_0,expert_1\n1,2\n", "layer,expert_0,expert_2\n0,1,2\n"],
)
def test_a_file_without_the_header_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InvalidInputError, match="must have a header layer,expert_0,expert_1"):
        read_table(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("line", ["0,1", "0,1,2,3", "0,1,-2", "0,1,x"])
def test_a_line_that_is_no_list_of_counts_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"# a comment\nlayer,expert_0,expert_1\n{line}\n")
    with pytest.raises(InvalidInputError, match=r"layer '0' of .* must have 2 whole numbers"):
        read_table(str(tmp_path / "a.csv"))


def test_a_recording_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="has nothing to scale"):
        scale_counts(np.zeros(4, np.int64), 4, 2)
