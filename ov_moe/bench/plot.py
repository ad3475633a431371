"""The plot of ``ov-moe bench``: time to the first token and of each further one, every step as a point."""

from __future__ import annotations

import io
from collections.abc import Sequence

from ov_moe.bench.output import Measurement


def draw(measurement: Measurement, kind: str) -> bytes:
    """A picture in one of matplotlib's formats, with one panel for first tokens and one for the others."""
    from matplotlib.figure import Figure

    labels, firsts, others = list[str](), list[list[float]](), list[list[float]]()
    for summary in measurement.summaries:
        runs = [
            each
            for turn in measurement.turns
            if turn.variant == summary.variant
            for each in turn.iterations
            if each.iteration and each.prompt == summary.prompt
        ]
        labels.append(f"{summary.variant}\n{summary.input_size} tokens")
        firsts.append([each.first_ms for each in runs])
        others.append([ms for each in runs for ms in each.other_ms])
    figure = Figure(figsize=(4.5 + 1.1 * len(labels), 5), layout="constrained")
    for place, (title, data) in enumerate((("first token", firsts), ("each further token", others)), start=1):
        axes = figure.add_subplot(1, 2, place)
        axes.set_title(title)
        axes.set_ylabel("milliseconds")
        _points(axes, data)
        axes.set_xticks(range(len(labels)), labels, rotation=30)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", alpha=0.3)
    facts = measurement.facts
    warning = " (a CPU's times)" if facts["virtual_gpu"] or facts["device"] == "CPU" else ""
    early = f", {len(measurement.turns)} of {len(measurement.planned)} turns" if measurement.stopped else ""
    figure.suptitle(f"{measurement.job.folder.name} on {facts['device_name']}{warning}{early}", fontsize=10)
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=120)
    return out.getvalue()


def _points(axes: object, data: Sequence[Sequence[float]]) -> None:
    """Every step as a point, spread sideways in order of time, and the median as a line."""
    import numpy as np
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    for place, values in enumerate(data):
        if values:
            axes.plot(place + np.linspace(-0.3, 0.3, len(values)), values, ".", markersize=4, alpha=0.6)
            axes.hlines(float(np.median(values)), place - 0.35, place + 0.35, colors="black")
