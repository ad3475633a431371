"""How a router spreads tokens over experts: drawn top-k ids, always without a repeat within a token."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench.recorded import recorded_counts

Ids = npt.NDArray[np.int32]

NAMES = ("balanced", "uniform", "power1.01", "power1.2", "hot", "worst", "recorded")


def draw_ids(name: str, tokens: int, experts: int, top_k: int, seed: int) -> Ids:
    """Top-k ids [tokens, top_k] of a named distribution; the same arguments give the same ids.

    Args:
        name: ``balanced`` (counts differ by one at most), ``uniform``, ``powerA`` (the expert of rank r is drawn with
            a weight of r^-A, e.g. power1.2), ``hot`` (one expert is in every token, the other slots are uniform),
            ``worst`` (all tokens on the same experts), ``recorded`` or ``recorded:FILE@LAYER`` (see recorded.py).
        tokens: T.
        experts: E.
        top_k: Slots of a token.
        seed: Of the draw; which expert has which rank depends on it too.

    Raises:
        InvalidInputError: The name is unknown, its number is none, or top_k is larger than E.
    """
    if not 1 <= top_k <= experts:
        raise InvalidInputError(f"top-k is {top_k}: a token needs between 1 and {experts} different experts.")
    rng = np.random.default_rng(seed)
    kind, _, rest = name.partition(":")
    if kind == "recorded":
        return place(rng, recorded_counts(rest, tokens, experts, top_k), tokens, top_k)
    if kind.startswith("power") and not rest:
        return _weighted(rng, tokens, top_k, rng.permutation(_power(kind.removeprefix("power"), experts)))
    if rest or kind not in _DRAWS:
        raise InvalidInputError(
            f"distribution {name!r} is unknown: use {', '.join(NAMES)}, another power as in power0.8, "
            "or recorded:FILE.csv@LAYER."
        )
    return _DRAWS[kind](rng, tokens, experts, top_k)


def place(rng: np.random.Generator, counts: npt.NDArray[np.int64], tokens: int, top_k: int) -> Ids:
    """Ids with exactly these counts of rows for each expert, in random order, without a repeat within a token.

    An expert's rows go to consecutive tokens, modulo T: no more rows than tokens, hence no repeat.

    Raises:
        InvalidInputError: The counts do not sum to tokens * top_k, or one of them is larger than ``tokens``.
    """
    if counts.sum() != tokens * top_k or counts.max(initial=0) > tokens:
        raise InvalidInputError(
            f"counts with sum {counts.sum()} and largest {counts.max(initial=0)} cannot be {tokens} tokens of "
            f"{top_k} different experts: the sum must be {tokens * top_k}, none may be beyond {tokens}."
        )
    order = rng.permutation(counts.size)
    rows = np.repeat(order, counts[order])
    ids = rows.reshape(top_k, tokens).T[rng.permutation(tokens)]
    return np.ascontiguousarray(rng.permuted(ids, axis=1).astype(np.int32))


def counts_of(ids: Ids, experts: int) -> npt.NDArray[np.int64]:
    """Rows of each expert [E]."""
    return np.bincount(ids[ids >= 0].reshape(-1), minlength=experts)


def _power(text: str, experts: int) -> npt.NDArray[np.float64]:
    try:
        alpha = float(text)
    except ValueError:
        alpha = float("nan")
    if not 0 <= alpha <= 100:
        raise InvalidInputError(f"'power{text}' needs a number from 0 to 100 behind it, as in power1.2.")
    return np.arange(1, experts + 1, dtype=np.float64) ** -alpha


def _weighted(rng: np.random.Generator, tokens: int, top_k: int, weights: npt.NDArray[np.float64]) -> Ids:
    # The top-k of log weight + Gumbel noise is a draw without replacement.
    keys = np.log(weights)[None, :] + rng.gumbel(size=(tokens, weights.size))
    return np.ascontiguousarray(np.argsort(-keys, axis=1)[:, :top_k].astype(np.int32))


def _balanced(rng: np.random.Generator, tokens: int, experts: int, top_k: int) -> Ids:
    rows = tokens * top_k
    counts = np.full(experts, rows // experts)
    counts[rng.permutation(experts)[: rows % experts]] += 1
    return place(rng, counts, tokens, top_k)


def _uniform(rng: np.random.Generator, tokens: int, experts: int, top_k: int) -> Ids:
    return _weighted(rng, tokens, top_k, np.ones(experts))


def _hot(rng: np.random.Generator, tokens: int, experts: int, top_k: int) -> Ids:
    weights = np.ones(experts)
    weights[rng.integers(experts)] = 1e300  # beyond any Gumbel noise
    return _weighted(rng, tokens, top_k, weights)


def _worst(rng: np.random.Generator, tokens: int, experts: int, top_k: int) -> Ids:
    return np.tile(rng.permutation(experts)[:top_k].astype(np.int32), (tokens, 1))


_DRAWS: dict[str, Callable[[np.random.Generator, int, int, int], Ids]] = {
    "balanced": _balanced,
    "uniform": _uniform,
    "hot": _hot,
    "worst": _worst,
}
