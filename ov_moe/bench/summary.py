"""From turns to one summary a variant and prompt: percentiles, rates, memory, and whether the output is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ov_moe.bench.job import Iteration, Turn

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Times:
    """Milliseconds of repeated steps.

    Attributes:
        count: Number of steps.
        mean: Average.
        minimum: The shortest.
        percentiles: p50, p90, p95, p99, by linear interpolation; NaN where there is no step.
    """

    count: int
    mean: float
    minimum: float
    percentiles: Mapping[int, float]

    @staticmethod
    def of(values: Sequence[float]) -> Times:
        """The times of these steps."""
        if not values:
            return Times(0, np.nan, np.nan, dict.fromkeys(PERCENTILES, np.nan))
        ranked = np.percentile(values, PERCENTILES)
        return Times(
            len(values), float(np.mean(values)), min(values), dict(zip(PERCENTILES, map(float, ranked), strict=True))
        )


@dataclass(frozen=True)
class Summary:
    """One variant on one prompt, over all its turns, without warm-up.

    Attributes:
        variant: Its name.
        prompt: Index of the prompt.
        input_size: Prompt tokens of each sequence.
        first: Time to the first new token.
        other: Time of each further token.
        prefill_rate: Prompt tokens a second, of the whole batch, at the median.
        decode_rate: New tokens a second, of the whole batch, over all further tokens.
        rss: Peak resident host memory of any of its processes, bytes.
        device_bytes: The plugin's allocations, the most seen, by kind.
        load_s: Median seconds of reading, rewriting and compiling.
        blocks: Blocks rewritten.
        builds: Program builds of its first turn; empty where nothing counts them.
        md5: Of the output; several where iterations differ.
        logits_error: Largest deviation of a logit at the prompt's last position from the first variant's, over
            the largest of those; NaN where a logit is none.
        same_output: Whether the output is that of the first variant in every iteration.
    """

    variant: str
    prompt: int
    input_size: int
    first: Times
    other: Times
    prefill_rate: float
    decode_rate: float
    rss: int | None
    device_bytes: Mapping[str, int]
    load_s: float
    blocks: int
    builds: Mapping[str, int]
    md5: tuple[str, ...]
    logits_error: float
    same_output: bool


def summarize(turns: Sequence[Turn], batch: int) -> list[Summary]:
    """One summary for each variant, in order of first appearance, and prompt; the first variant is the reference."""
    variants = list(dict.fromkeys(turn.variant for turn in turns))
    logits = {turn.variant: _logits(turn) for turn in reversed(turns)}
    found: list[Summary] = []
    reference: dict[int, tuple[str, ...]] = {}
    for variant in variants:
        own = [turn for turn in turns if turn.variant == variant]
        counted = [each for turn in own for each in turn.iterations if each.iteration]
        for prompt in sorted({each.prompt for each in counted}):
            runs = [each for each in counted if each.prompt == prompt]
            md5 = tuple(dict.fromkeys(each.md5 for each in runs))
            expected = reference.setdefault(prompt, md5)
            error = _error(logits[variant][str(prompt)], logits[variants[0]][str(prompt)])
            found.append(_summary(own, runs, batch, md5, error, md5 == expected and len(md5) == 1))
    return found


def _summary(
    own: Sequence[Turn], runs: Sequence[Iteration], batch: int, md5: tuple[str, ...], error: float, same: bool
) -> Summary:
    first = Times.of([each.first_ms for each in runs])
    other = Times.of([ms for each in runs for ms in each.other_ms])
    every = [each for turn in own for each in turn.iterations]
    sizes = [each.rss for each in every if each.rss is not None]
    kinds = {kind for each in every for kind in each.device_bytes}
    return Summary(
        variant=own[0].variant,
        prompt=runs[0].prompt,
        input_size=runs[0].input_size,
        first=first,
        other=other,
        prefill_rate=1e3 * batch * runs[0].input_size / first.percentiles[50],
        decode_rate=1e3 * batch / other.mean,
        rss=max(sizes) if sizes else None,
        device_bytes={kind: max(each.device_bytes.get(kind, 0) for each in every) for kind in sorted(kinds)},
        load_s=float(np.median([turn.load_s + turn.compile_s for turn in own])),
        blocks=own[0].blocks,
        builds=own[0].builds,
        md5=md5,
        logits_error=error,
        same_output=same,
    )


def _logits(turn: Turn) -> dict[str, npt.NDArray[Any]]:
    with np.load(Path(turn.logits)) as file:
        return {name: file[name] for name in file.files}


def _error(logits: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    largest = np.abs(reference).max()
    return float(np.abs(logits - reference).max() / (largest or 1.0))
