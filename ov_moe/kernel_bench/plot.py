"""Time against tokens: a panel for each distribution, a line for each schedule."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ov_moe.commands.figures import figure_format
from ov_moe.commands.output_files import write_whole
from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench.records import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_plot(path: Path, rows: Sequence[Row], device: str) -> None:
    """Write a figure; its suffix says which format. A row of panels for each shape, precision and stage.

    On a device without absolute times the lines are ratios to the baseline.

    Raises:
        InvalidInputError: matplotlib is not there, or the suffix is no format of its.
        OutputError: The file cannot be written.
    """
    kind = figure_format(path)
    from matplotlib.figure import Figure

    timed = [row for row in rows if row.ok and row.ratio is not None]
    if not timed:
        raise InvalidInputError(f"{path} is not drawn: no row was timed.")
    groups = list(dict.fromkeys((row.shape, row.precision, row.stage) for row in timed))
    distributions = list(dict.fromkeys(row.distribution for row in timed))
    schedules = list(dict.fromkeys(row.schedule for row in timed))
    size = (3.6 * len(distributions) + 1.4, 3.0 * len(groups) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(groups), len(distributions), squeeze=False, sharex=True, sharey="row")
    for line, group in enumerate(groups):
        for column, distribution in enumerate(distributions):
            panel = panels[line][column]
            _lines(panel, timed, group, distribution, schedules)
            panel.set_title(f"{' '.join(group)}\n{distribution}", fontsize=8)
            if column == 0:
                panel.set_ylabel("ms" if _absolute(timed) else f"speed, x {timed[0].baseline}", fontsize=8)
            if line == len(groups) - 1:
                panel.set_xlabel("tokens", fontsize=8)
    lines = panels[0][0].get_lines()
    figure.legend(lines, schedules, loc="outside lower center", ncols=min(len(schedules), 5), fontsize=8)
    figure.suptitle(device, fontsize=9)
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=150)
    write_whole(path, out.getvalue())


def _absolute(timed: Sequence[Row]) -> bool:
    return any(row.ms is not None for row in timed)


def _lines(
    panel: Axes, timed: Sequence[Row], group: tuple[str, ...], distribution: str, schedules: Sequence[str]
) -> None:
    """One for each schedule, in a panel of one shape, precision and stage and one distribution."""
    inside = [row for row in timed if (row.shape, row.precision, row.stage) == group]
    for number, schedule in enumerate(schedules):
        points = [row for row in inside if (row.schedule, row.distribution) == (schedule, distribution)]
        points.sort(key=lambda row: row.tokens)
        values: list[Any] = [row.ms if _absolute(timed) else row.ratio for row in points]
        panel.plot([row.tokens for row in points], values, "o-", ms=3, lw=1.2, color=f"C{number}")
    tokens = sorted({row.tokens for row in timed})
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.grid(True, which="both", lw=0.3)
    panel.tick_params(which="both", labelsize=7)
    panel.set_xticks(tokens, map(str, tokens))
    panel.xaxis.minorticks_off()
