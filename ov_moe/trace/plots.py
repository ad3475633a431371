"""The two pictures of ``ov-moe trace``: tokens per expert as a heat map, and the simulated schedules."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ov_moe.trace.recording import Recording
from ov_moe.trace.simulate import Timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heat_map(recording: Recording, kind: str) -> bytes:
    """Layers x experts, rows over the mean of the layer; ``kind`` is one of matplotlib's formats."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    total = recording.total
    mean = np.maximum(total.sum(axis=1, keepdims=True) / recording.experts, 1e-9)
    figure = Figure(figsize=(10, 2.5 + 0.12 * len(total)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(total / mean, aspect="auto", cmap="magma", interpolation="nearest", vmin=0)
    axes.set_xlabel("expert")
    axes.set_ylabel("layer")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, label="rows over the layer's mean")
    prefills = counted(len(recording.prefills), "prefill")
    rows = f"{prefills}, {int(total.sum(axis=1).max()) if total.size else 0} rows a layer"
    axes.set_title(f"{recording.facts.get('model', 'recording')}: {rows}")
    return _drawn(figure, kind)


def timelines(both: Sequence[Timeline], title: str, kind: str) -> bytes:
    """One panel for each schedule over the same time axis; a colour is an expert, grey finds nothing to do."""
    from matplotlib import colormaps
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure

    end = max(timeline.end for timeline in both)
    figure = Figure(figsize=(11, 7), layout="constrained")
    for number, timeline in enumerate(both, start=1):
        axes = figure.add_subplot(len(both), 1, number)
        left, right = timeline.start, timeline.start + timeline.length
        low, high = timeline.place - 0.45, timeline.place + 0.45
        corners = np.stack([np.stack([left, right, right, left], 1), np.stack([low, low, high, high], 1)], axis=2)
        colours = colormaps["turbo"](timeline.expert * 0.618 % 1.0)
        colours[timeline.expert < 0] = (0.82, 0.82, 0.82, 1.0)
        axes.add_collection(PolyCollection(list(corners), facecolors=colours, linewidths=0))
        axes.set_xlim(0, end * 1.02)
        axes.set_ylim(-0.5, timeline.groups - 0.5)
        axes.axvline(timeline.end, color="black", linewidth=1)
        axes.set_ylabel("work-group place")
        axes.set_title(f"{timeline.schedule}: {timeline.end:.1f} tile times, places busy {timeline.busy:.0%}")
    axes.set_xlabel("time in tiles (simulated)")
    figure.suptitle(f"{title} - a simulation, not a measurement")
    return _drawn(figure, kind)


def counted(number: int, noun: str) -> str:
    """As in "1 prefill" or "2 prefills"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def _drawn(figure: Figure, kind: str) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=120)
    return out.getvalue()
