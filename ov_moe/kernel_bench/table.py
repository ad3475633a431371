"""Rows as a table on the terminal: one for each shape, precision and stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from ov_moe.kernel_bench.records import Row

CPU_NOTE = (
    "This device is no GPU: its times say nothing about one. Only ratios of runs side by side are shown, and they "
    "describe this device."
)


def make_table(rows: Sequence[Row], gpu: bool) -> Table:
    """The rows of one shape, precision and stage."""
    first = rows[0]
    table = Table(
        title=f"{first.shape}  {first.precision}  {first.stage}  (H {first.hidden}, I {first.intermediate}, "
        f"{first.experts} experts, top {first.top_k})",
        title_justify="left",
    )
    columns = ["distribution", "tokens", "schedule"]
    columns += ["ms", "spread", "TFLOP/s", "GB/s", "of limit"] if gpu else ["spread"]
    columns += ["groups", "live", "padded", f"x {first.baseline}", "error"]
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number in (0, 2) else "right", no_wrap=True)
    previous = None
    for row in rows:
        here = (row.distribution, row.tokens)
        if previous not in (None, here):
            table.add_section()
        place = [_short(row.distribution), str(row.tokens)] if here != previous else ["", ""]
        previous = here
        table.add_row(*place, *_cells(row, gpu))
    return table


def _cells(row: Row, gpu: bool) -> list[str]:
    if not row.ok:
        wide = 5 if gpu else 1
        return [row.schedule, "[red]FAILED[/red]", *[""] * (wide + 3), _number(row.error, ".1e")]
    cells = [row.schedule]
    spread = "" if row.spread is None else f"{100 * row.spread:.1f} %"
    if gpu:
        limit = "" if row.fraction is None else f"{100 * row.fraction:.0f} % {row.bound}"
        cells += [_number(row.ms, ".3f"), spread, _number(row.tflops, ".1f"), _number(row.gbs, ".0f"), limit]
    else:
        cells += [spread]
    cells += [str(row.groups), str(row.live), str(row.padded), _number(row.ratio, ".2f"), _number(row.error, ".1e")]
    return cells


def _number(value: float | None, form: str) -> str:
    return "" if value is None or math.isnan(value) else format(value, form)


def _short(distribution: str) -> str:
    kind, _, place = distribution.partition(":")
    layer = place.rpartition("@")[2] if "@" in place else ""
    return f"{kind} layer {layer}" if layer else kind
