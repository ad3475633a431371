"""The tables of ``ov-moe bench``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from ov_moe.bench.job import Job, Turn
from ov_moe.bench.summary import PERCENTILES, Summary, Times

_MIB = 2**20
# Rows of a profile that are shown; the JSON has all.
_SHOWN = 12


def summary_table(summaries: Sequence[Summary], job: Job, rounds: int) -> Table:
    """One row for each variant and prompt."""
    plural = "s" if rounds > 1 else ""
    table = Table(
        title=(
            f"{job.folder.name}: {job.new_tokens} new tokens, batch {job.batch}, {job.iterations} iterations in "
            f"{rounds} turn{plural} each, {job.warm_up} warm-up"
        ),
        title_justify="left",
        caption=(
            "prompt: index and tokens; first, other: milliseconds to the first new token and for each further one, "
            "p50 / p90 / p95 / p99; tokens/s: prompt, then new tokens, of the whole batch; memory: MiB, peak of the "
            "process and what the plugin holds; builds: programs at compile time + later (with ov-moe's kernels)"
        ),
        caption_justify="left",
    )
    table.add_column("variant", no_wrap=True)
    table.add_column("prompt", justify="right")
    for column in ("first ms", "other ms", "tokens/s", "load s", "host", "device", "builds"):
        table.add_column(column, justify="right")
    table.add_column("md5")
    for each in summaries:
        table.add_row(
            each.variant,
            f"{each.prompt}: {each.input_size}",
            _percentiles(each.first),
            _percentiles(each.other),
            f"{each.prefill_rate:.0f}\n{_number(each.decode_rate)}",
            f"{each.load_s:.1f}",
            "n/a" if each.rss is None else f"{each.rss / _MIB:.0f}",
            f"{sum(each.device_bytes.values()) / _MIB:.1f}" if each.device_bytes else "n/a",
            _builds(each),
            "\n".join(md5[:8] for md5 in each.md5) + ("" if each.same_output else " !"),
        )
    return table


def profile_table(turn: Turn, phase: str) -> Table:
    """Where the device's time goes, by the plugin's own profile."""
    rows = [row for row in turn.profile if row["phase"] == phase]
    total = sum(row["device_ms"] for row in rows)
    title = (
        f"{turn.variant}, {phase}: {total:.2f} ms on the device of {turn.wall_ms[phase]:.2f} ms in all, "
        f"{sum(row['count'] for row in rows)} operations"
    )
    caption = (
        "means over some inferences; host ms of kernel CPU: how long it ran on the host (a loop with all that it waits "
        "for, its own kernels are not shown); of the others: how long they were in the queue"
    )
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("operation")
    table.add_column("kernel", overflow="fold")
    for column in ("count", "device ms", "share", "host ms"):
        table.add_column(column, justify="right")
    for row in rows[:_SHOWN]:
        table.add_row(
            row["operation"],
            row["kernel"],
            str(row["count"]),
            f"{row['device_ms']:.3f}",
            f"{row['device_ms'] / total:.0%}" if total else "",
            f"{row['host_ms']:.3f}",
            style="bold" if row["ours"] else None,
        )
    rest = rows[_SHOWN:]
    if rest:
        device, host = (sum(row[name] for row in rest) for name in ("device_ms", "host_ms"))
        share = f"{device / total:.0%}" if total else ""
        count = sum(row["count"] for row in rest)
        table.add_row(f"{len(rest)} more kinds", "", str(count), f"{device:.3f}", share, f"{host:.3f}")
    return table


def _percentiles(times: Times) -> str:
    return " / ".join(_number(times.percentiles[each]) for each in PERCENTILES)


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def _builds(summary: Summary) -> str:
    found = summary.builds
    if not found:
        return "n/a"
    return " + ".join(f"{found[f'all_{when}']} ({found[f'ours_{when}']})" for when in ("compile", "later"))
