"""The command line: ``ov-moe``. Importing it does not import openvino."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ov_moe import __version__
from ov_moe.errors import OvMoeError

# Wide enough for the tables where the output goes to a file or a pipe.
_WIDTH = 132

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ov-moe {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Mixture-of-Experts blocks of OpenVINO models on a balanced pool of GPU work-groups."""


@app.command()
def demo(
    device: Annotated[
        str, typer.Option(help="auto (a real GPU, else the virtual GPU), GPU, GPU.n or CPU.", metavar="DEVICE")
    ] = "auto",
    tokens: Annotated[int, typer.Option(min=2, help="Tokens to generate.")] = 12,
    model: Annotated[
        Path | None, typer.Option(help="An IR (.xml) or its folder; by default a tiny Qwen3-MoE.", metavar="PATH")
    ] = None,
) -> None:
    """Rewrite a model, compile it for a GPU, compare it with the unfused model, and time both."""
    with _one_sentence():
        from ov_moe.demo.place import choose

        place = choose(device)
        from ov_moe.demo.run import run_demo  # imports openvino, which the virtual GPU must precede

        console = Console()
        run_demo(place, tokens, model, console if console.is_terminal else Console(width=_WIDTH))


@contextmanager
def _one_sentence() -> Iterator[None]:
    """An error of ov-moe ends the command with its one sentence and exit status 1, without a traceback."""
    try:
        yield
    except OvMoeError as error:
        typer.echo(f"ov-moe: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
