"""A recording on the terminal: how uneven each layer is, and what the schedules would make of one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer
from rich.table import Table

from ov_moe.commands.console import tables
from ov_moe.commands.figures import figure_format
from ov_moe.kernels.micro import Fma
from ov_moe.options import Config
from ov_moe.trace import plots, simulate
from ov_moe.trace.imbalance import over_prefills
from ov_moe.trace.options import ViewOptions
from ov_moe.trace.plots import counted
from ov_moe.trace.recording import Recording

_WIDTH = 132


def show(recording: Recording, view: ViewOptions) -> dict[Path, bytes | str]:
    """Print the table and the simulation; returns the pictures that are wanted."""
    layers, tile, groups = range(len(recording.layers)), view.tile, view.groups
    worst = int(np.argmax([over_prefills(recording.prefills, layer, tile).max_over_mean for layer in layers]))
    chosen = worst if view.layer is None else view.layer
    tables(_WIDTH).print(_table(recording, tile))
    columns = 2 * recording.layers[chosen].intermediate
    blocks = max(-(-columns // Fma.tile_n), 1)
    counts = recording.prefills[0][chosen]
    tokens = max(Config.from_environment().max_tokens, int(counts.max()))
    both = (
        simulate.grid(counts, groups, tile, blocks, tokens, view.empty),
        simulate.pool(counts, groups, tile, blocks),
    )
    typer.echo(
        f"Simulated (no measurement): layer {chosen}, first prefill, {counted(blocks, 'column block')}, "
        f"{counted(groups, 'group')} at "
        f"a time, a grid for {tokens} tokens: "
        + "; ".join(f"{one.schedule} {one.end:.1f} tile times, places busy {one.busy:.0%}" for one in both)
        + f". Model: a tile takes 1 whatever its rows, a group without work {view.empty:g}."
    )
    pictures = dict[Path, bytes | str]()
    if view.heat_map is not None:
        pictures[view.heat_map] = plots.heat_map(recording, figure_format(view.heat_map))
    if view.timeline is not None:
        title = f"layer {chosen}, {counted(int(counts.sum()), 'row')}, {counted(groups, 'group')}"
        pictures[view.timeline] = plots.timelines(both, title, figure_format(view.timeline))
    return pictures


def _table(recording: Recording, tile: int) -> Table:
    """One row for each layer; every figure is the mean over prefills."""
    prefills, experts = counted(len(recording.prefills), "prefill"), counted(recording.experts, "expert")
    title = f"{recording.facts.get('model', 'recording')}: {prefills}, {experts}"
    caption = f"means over prefills; padded rows: share of the rows of all tiles of {tile} rows that no token fills"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for column in ("layer", "rows", "max / mean", "Gini", "empty experts", "padded rows", "block"):
        table.add_column(column, justify="left" if column == "block" else "right", overflow="fold")
    for index, layer in enumerate(recording.layers):
        found = over_prefills(recording.prefills, index, tile)
        rows = int(np.mean([prefill[index].sum() for prefill in recording.prefills]))
        figures = (f"{found.max_over_mean:.2f}", f"{found.gini:.2f}", f"{found.empty:g}", f"{found.padded:.0%}")
        table.add_row(str(index), str(rows), *figures, layer.name)
    return table
