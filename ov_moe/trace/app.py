"""The commands ``ov-moe trace record`` and ``ov-moe trace show``. Does not import openvino."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from ov_moe.commands.figures import figure_format
from ov_moe.commands.guard import one_sentence
from ov_moe.commands.model_files import find_model
from ov_moe.commands.output_files import check_writable, write_together
from ov_moe.commands.prompts import parse_prompts
from ov_moe.commands.properties import parse_properties
from ov_moe.commands.stop import IncompleteError
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.config import KernelConfig
from ov_moe.options import Config
from ov_moe.trace.imbalance import over_prefills

if TYPE_CHECKING:
    from ov_moe.trace.recording import Recording

_WIDTH = 132
# Of the fma tile that prefill runs with.
_TILE = KernelConfig.tile_m
_COLUMNS = KernelConfig.tile_n

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_Tile = Annotated[int, typer.Option(min=1, help="Rows of a tile, for padding and simulation.")]
_Groups = Annotated[int, typer.Option(min=1, help="Work-groups that run at the same time, in the simulation.")]
_HeatMap = Annotated[Path | None, typer.Option(help="Draw layers x experts (.png, .svg, .pdf); needs matplotlib.")]
_Timeline = Annotated[
    Path | None, typer.Option(help="Draw the simulated schedules (.png, .svg, .pdf); needs matplotlib.")
]
_Layer = Annotated[int | None, typer.Option(min=0, help="Of the simulation; by default the most uneven one.")]
_Empty = Annotated[float, typer.Option(min=0, help="Time of a group that finds nothing, in tiles (simulation).")]


@app.callback()
def _group() -> None:
    """Record how many tokens each expert gets, and show what that means."""


@app.command("record")
def record_command(
    model: Annotated[Path, typer.Argument(help="An IR (.xml) or its folder, rewritten or not.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV; a .json of the same name goes beside it.")],
    device: Annotated[
        str, typer.Option("--device", "-d", help="auto (a real GPU, else the virtual GPU), GPU, GPU.n or CPU.")
    ] = "auto",
    prompt_tokens: Annotated[str | None, typer.Option(help="Prompts of so many random tokens, as in 128,1024.")] = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="A text; may be given again.")] = None,
    prompt_file: Annotated[
        Path | None, typer.Option("--prompt-file", "-pf", help="One text a line; .jsonl: {'prompt': '...'}.")
    ] = None,
    new_tokens: Annotated[int, typer.Option(min=0, help="Tokens to generate after each prompt, counted apart.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the random tokens.")] = 0,
    setting: Annotated[
        list[str] | None, typer.Option("--property", help="KEY=VALUE for compile_model; repeatable.")
    ] = None,
    tile: _Tile = _TILE,
    groups: _Groups = 64,
    layer: _Layer = None,
    empty: _Empty = 0.02,
    heat_map: _HeatMap = None,
    timeline: _Timeline = None,
) -> None:
    """Run prompts through a clone of the model that shows its expert ids; write the counts of every layer."""
    with one_sentence():
        from ov_moe.devices.place import choose

        path = find_model(model)
        prompts = parse_prompts(prompt_tokens, prompt or [], prompt_file)
        if not prompts:
            raise InvalidInputError("There is nothing to run: give --prompt-tokens, --prompt or --prompt-file.")
        from ov_moe.trace.recording import metadata_path

        if output.suffix == ".json":
            raise InvalidInputError(f"{output} is where the JSON beside the CSV goes: give the CSV another name.")
        check_writable((output, metadata_path(output), heat_map, timeline))
        _check_pictures(heat_map, timeline)
        properties = parse_properties(setting or [])
        config = Config.from_environment()
        place = choose(device)
        from ov_moe.trace.record import record  # imports openvino, which the virtual GPU must precede

        progress = Console(stderr=True, highlight=False)
        recording, stop = record(
            path,
            place.device,
            prompts,
            config,
            properties,
            new_tokens=new_tokens,
            seed=seed,
            progress=progress.print,
            layer=layer,
        )
        contents = recording.contents(output)
        try:
            contents |= _show(recording, tile, groups, layer, empty, heat_map, timeline)
        finally:  # whoever read it may have left
            write_together(contents)
        typer.echo(f"Written: {', '.join(map(str, contents))}")
        if stop is not None:
            raise IncompleteError(stop, f"{len(recording.prefills)} of {len(prompts)} prompts")
        if all(one.text is None for one in prompts):
            typer.echo("The prompts were random tokens, which are routed less evenly than text: record texts as well.")


@app.command("show")
def show_command(
    recording: Annotated[Path, typer.Argument(help="A CSV that ov-moe trace record wrote, or one like it.")],
    tile: _Tile = _TILE,
    groups: _Groups = 64,
    layer: _Layer = None,
    empty: _Empty = 0.02,
    heat_map: _HeatMap = None,
    timeline: _Timeline = None,
) -> None:
    """Print the imbalance of a recording, and draw it."""
    with one_sentence():
        from ov_moe.trace.recording import check_layer, load

        check_writable((heat_map, timeline))
        _check_pictures(heat_map, timeline)
        found = load(recording)
        check_layer(layer, len(found.layers))
        write_together(_show(found, tile, groups, layer, empty, heat_map, timeline))


def _check_pictures(*paths: Path | None) -> None:
    for path in paths:
        if path is not None:
            figure_format(path)


def _show(
    recording: Recording,
    tile: int,
    groups: int,
    layer: int | None,
    empty: float,
    heat_map: Path | None,
    timeline: Path | None,
) -> dict[Path, bytes | str]:
    """Print the table and the simulation; returns the pictures that are wanted."""
    from ov_moe.trace import plots, simulate

    worst = int(
        np.argmax([over_prefills(recording.prefills, i, tile).max_over_mean for i in range(len(recording.layers))])
    )
    chosen = worst if layer is None else layer
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDTH)
    console.print(_table(recording, tile))
    columns = 2 * recording.layers[chosen].intermediate
    blocks = max(-(-columns // _COLUMNS), 1)
    counts = recording.prefills[0][chosen]
    tokens = max(Config.from_environment().max_tokens, int(counts.max()))
    both = (
        simulate.grid(counts, groups, tile, blocks, tokens, empty),
        simulate.pool(counts, groups, tile, blocks),
    )
    typer.echo(
        f"Simulated (no measurement): layer {chosen}, first prefill, {plots.counted(blocks, 'column block')}, "
        f"{plots.counted(groups, 'group')} at "
        f"a time, a grid for {tokens} tokens: "
        + "; ".join(f"{one.schedule} {one.end:.1f} tile times, places busy {one.busy:.0%}" for one in both)
        + f". Model: a tile takes 1 whatever its rows, a group without work {empty:g}."
    )
    pictures = dict[Path, bytes | str]()
    if heat_map is not None:
        pictures[heat_map] = plots.heat_map(recording, figure_format(heat_map))
    if timeline is not None:
        title = f"layer {chosen}, {plots.counted(int(counts.sum()), 'row')}, {plots.counted(groups, 'group')}"
        pictures[timeline] = plots.timelines(both, title, figure_format(timeline))
    return pictures


def _table(recording: Recording, tile: int) -> Table:
    """One row for each layer; every figure is the mean over prefills."""
    from ov_moe.trace.plots import counted

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
