"""What ``ov-moe trace record`` and ``ov-moe trace show`` are asked to do. Does not import openvino."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ov_moe.commands.figures import figure_format
from ov_moe.commands.shared_options import Device, PromptOptions
from ov_moe.kernels.micro import Fma


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """How a recording is shown."""

    # Of the fma tile that prefill runs with.
    tile: Annotated[int, typer.Option(min=1, help="Rows of a tile, for padding and simulation.")] = Fma.tile_m
    groups: Annotated[int, typer.Option(min=1, help="Work-groups that run at the same time, in the simulation.")] = 64
    layer: Annotated[int | None, typer.Option(min=0, help="Of the simulation; by default the most uneven one.")] = None
    empty: Annotated[float, typer.Option(min=0, help="Time of a group that finds nothing, in tiles (simulation).")] = (
        0.02
    )
    heat_map: Annotated[
        Path | None, typer.Option(help="Draw layers x experts (.png, .svg, .pdf); needs matplotlib.")
    ] = None
    timeline: Annotated[
        Path | None, typer.Option(help="Draw the simulated schedules (.png, .svg, .pdf); needs matplotlib.")
    ] = None

    def check_pictures(self) -> None:
        """Raise InvalidInputError where a picture cannot be drawn."""
        for path in (self.heat_map, self.timeline):
            if path is not None:
                figure_format(path)


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """The options of ``record``."""

    model: Annotated[Path, typer.Argument(help="An IR (.xml) or its folder, rewritten or not.")]
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV; a .json of the same name goes beside it.")]
    device: Device = "auto"
    prompts: PromptOptions
    new_tokens: Annotated[int, typer.Option(min=0, help="Tokens to generate after each prompt, counted apart.")] = 0
    seed: Annotated[int, typer.Option(min=0, help="Of the random tokens.")] = 0
    setting: Annotated[
        list[str] | None, typer.Option("--property", help="KEY=VALUE for compile_model; repeatable.")
    ] = None
    view: ViewOptions


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """The options of ``show``."""

    recording: Annotated[Path, typer.Argument(help="A CSV that ov-moe trace record wrote, or one like it.")]
    view: ViewOptions
