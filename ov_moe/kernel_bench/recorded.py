"""Recorded routings: a CSV file of rows for each expert, one line a layer, scaled to any number of tokens.

The header is ``layer,expert_0,expert_1,...``; lines that start with # are comments.
"""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ov_moe.errors import InvalidInputError

Counts = npt.NDArray[np.int64]

# gpt-oss-20b, top 4 of 32 experts; its own header says whose figures these are.
SHIPPED = "gpt_oss_20b_prefill_tokens_per_expert.csv"


def recorded_counts(place: str, tokens: int, experts: int, top_k: int) -> Counts:
    """Rows of each expert for ``tokens`` tokens, from a file.

    Where the recorded rows are tokens * top_k they are taken as they are; else they are scaled, and cut off at one
    row of an expert for each token.

    Args:
        place: ``FILE@LAYER``. Without a file the shipped recording of gpt-oss-20b, without a layer the one whose
            largest share is the median of all layers.
        tokens: T.
        experts: E, which the file must have too.
        top_k: Slots of a token.

    Raises:
        InvalidInputError: The file cannot be read, or has another number of experts or no such layer.
    """
    path, _, layer = place.partition("@")
    table = read_table(path)
    counts = _layer(table, layer, path or SHIPPED)
    if counts.size != experts:
        raise InvalidInputError(
            f"{path or SHIPPED} records {counts.size} experts and the shape has {experts}: record one of its own."
        )
    return scale_counts(counts, tokens, top_k)


def read_table(path: str) -> dict[str, Counts]:
    """Layer -> rows of each expert; the shipped file where ``path`` is empty.

    Raises InvalidInputError if it is no such file.
    """
    try:
        text = (
            Path(path).read_text(encoding="utf-8")
            if path
            else (resources.files("ov_moe.kernel_bench") / "data" / SHIPPED).read_text(encoding="utf-8")
        )
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"the recording {path!r} cannot be read: {why}.") from error
    lines = [line for line in csv.reader(text.splitlines()) if line and not line[0].lstrip().startswith("#")]
    header = lines[0] if lines else []
    if header[:1] != ["layer"] or header[1:] != [f"expert_{i}" for i in range(len(header) - 1)] or len(lines) < 2:
        raise InvalidInputError(
            f"the recording {path!r} must have a header layer,expert_0,expert_1,... and one line a layer."
        )
    table: dict[str, Counts] = {}
    for line in lines[1:]:
        if len(line) != len(header) or not all(cell.strip().isdigit() for cell in line[1:]):
            raise InvalidInputError(f"layer {line[0]!r} of {path!r} must have {len(header) - 1} whole numbers.")
        table[line[0].strip()] = np.array([int(cell) for cell in line[1:]], np.int64)
    return table


def scale_counts(counts: Counts, tokens: int, top_k: int) -> Counts:
    """Counts with sum tokens * top_k and none above ``tokens``, as near to the given proportions as whole rows allow.

    Raises InvalidInputError for counts that are all zero, or fewer than top_k of them.
    """
    total = tokens * top_k
    if counts.sum() < 1 or counts.size < top_k:
        raise InvalidInputError(f"a recording of {counts.sum()} rows over {counts.size} experts has nothing to scale.")
    result: Counts = np.zeros_like(counts)
    while result.sum() < total:
        # Largest remainder over the experts that are not full; a full one's surplus goes round again. An expert
        # without a recorded row is asked only when all others are full.
        missing = total - int(result.sum())
        open_ = np.where(result < tokens, counts, 0).astype(np.float64)
        if not open_.any():
            open_ = (result < tokens).astype(np.float64)
        exact = missing * open_ / open_.sum()
        add = np.floor(exact).astype(np.int64)
        rest = np.argsort(-(exact - add), kind="stable")[: missing - int(add.sum())]
        add[rest] += 1
        result = np.minimum(result + add, tokens)
    return result


def _layer(table: dict[str, Counts], layer: str, path: str) -> Counts:
    if layer:
        if layer not in table:
            raise InvalidInputError(f"{path} has no layer {layer!r}, only {', '.join(table)}.")
        return table[layer]
    shares = sorted(table, key=lambda name: table[name].max() / max(int(table[name].sum()), 1))
    return table[shares[len(shares) // 2]]
