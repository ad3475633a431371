"""One row of a benchmark, and the files that rows are written to: JSON with the device, CSV, both versioned."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import ov_moe
from ov_moe.commands.output_files import write_whole
from ov_moe.kernel_bench.cost import Limits

SCHEMA = 1


@dataclass
class Row:
    """One schedule on one case and stage. None where it was not measured: on a CPU there are no absolute times.

    Attributes:
        shape: Name of the shape; ``hidden`` .. ``top_k`` are its sizes.
        precision: Of the weights, as reports print it (``u4 g128 asym``).
        tokens: T.
        room: Tokens that the buffers have room for.
        distribution: Of the top-k ids; ``seed`` belongs to it.
        skew: Rows of the largest expert in units of the mean over all experts.
        stage: ``layer`` or one of the four kernels alone.
        schedule: Name of the schedule.
        config: The kernel configuration, ``name=value`` pairs.
        host_counts: Whether the host reads the plan back before it launches; in ``layer`` the wait is in ``ms``.
        ok: Whether the check against the oracle passed; only then is there a time.
        why: What is wrong where it did not.
        error: Largest error of a sampled token as a share of its norm; ``tolerance`` is what is allowed.
        ms: Median of ``runs`` runs by the device's clock, ``ms_low`` and ``ms_high`` the quartiles.
        spread: Distance of the quartiles as a share of the median.
        tflops: Multiplications and additions of the matrix products in ``ms``, 10^12 a second.
        gbs: Bytes that must move at least, 10^9 a second.
        bound: The limit that binds, ``compute`` or ``memory``.
        fraction: Share of that limit that was reached.
        launches: Enqueued kernels.
        groups: Work-groups launched, and ``live`` those of them that find a task.
        rows: Live rows, and ``padded`` the empty rows of their tiles.
        ratio: Median of the baseline divided by this one's: above 1 this is faster.
        baseline: Name of the baseline.
        repro: A command that measures the row again, next to its baseline.
    """

    shape: str
    hidden: int
    intermediate: int
    experts: int
    top_k: int
    precision: str
    tokens: int
    room: int
    distribution: str
    seed: int
    skew: float
    stage: str
    schedule: str
    config: str
    host_counts: bool
    ok: bool
    why: str
    error: float | None
    tolerance: float | None
    ms: float | None
    ms_low: float | None
    ms_high: float | None
    spread: float | None
    runs: int
    tflops: float | None
    gbs: float | None
    bound: str | None
    fraction: float | None
    launches: int | None
    groups: int | None
    live: int | None
    rows: int
    padded: int | None
    ratio: float | None
    baseline: str
    repro: str


def header(device: Mapping[str, Any], limits: Limits | None, flush_bytes: int) -> dict[str, Any]:
    """What a record says once: schema, date (UTC), device and driver, versions, measured limits.

    ``complete`` becomes true when all rows are there.
    """
    return {
        "schema": SCHEMA,
        "complete": False,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": dict(device),
        "ov_moe": ov_moe.__version__,
        "commit": commit(),
        "limits": None if limits is None else asdict(limits),
        "flush_bytes": flush_bytes,
    }


def write_json(path: Path, head: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """The header and all rows; OutputError where the file cannot be written. NaN and infinity become null."""
    write_whole(path, json.dumps({**head, "rows": [_plain(row) for row in rows]}, indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, head: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """One line a row; device, driver, versions and date are its last columns."""
    device = head["device"]
    shared = {
        "device": device["name"],
        "driver": device["driver"],
        "platform_version": device["platform_version"],
        "ov_moe": head["ov_moe"],
        "commit": head["commit"],
        "date": head["date"],
        "schema": head["schema"],
        "complete": head["complete"],
    }
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(Row)] + list(shared))
    writer.writeheader()
    writer.writerows({**_plain(row), **shared} for row in rows)
    write_whole(path, text.getvalue())


def commit() -> str | None:
    """The git commit of the checkout that runs, ``-dirty`` behind it if files differ, or None.

    A copy without .git takes it from the variable OV_MOE_COMMIT.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return os.environ.get("OV_MOE_COMMIT") or None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _plain(row: Row) -> dict[str, Any]:
    values = asdict(row).items()
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values}
