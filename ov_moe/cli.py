"""The command line: ``ov-moe``. Importing it does not import openvino."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from ov_moe import __version__, bench, doctor, kernel_bench, kernel_show, trace
from ov_moe.commands.console import messages, tables
from ov_moe.commands.guard import one_sentence
from ov_moe.errors import InvalidInputError

if TYPE_CHECKING:
    from ov_moe.folder.report import FolderReport

# Wide enough for the tables where the output goes to a file or a pipe.
_WIDTH = 132


class BalanceSwitch(str, Enum):
    """How prefill shares its work out."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class ReportFormat(str, Enum):
    """How a report is printed."""

    TABLE = "table"
    JSON = "json"


kernels = typer.Typer(help="The kernels alone: their times on any OpenCL device, their sources.")
kernels.command("bench")(kernel_bench.bench)
kernels.command("show")(kernel_show.command)
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command("bench")(bench.command)
app.command("doctor")(doctor.command)
app.add_typer(trace.app, name="trace")
app.add_typer(kernels, name="kernels")


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
    with one_sentence("Interrupted."):
        from ov_moe.devices.place import choose

        place = choose(device)
        from ov_moe.demo.run import run_demo  # imports openvino, which the virtual GPU must precede

        run_demo(place, tokens, model, tables(_WIDTH))


@app.command()
def optimize(
    source: Annotated[
        Path, typer.Argument(metavar="DIR_OR_XML", help="A model's folder, or an IR's .xml, carried over alone.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; it appears whole or not at all.")],
    *,
    balance: Annotated[
        BalanceSwitch | None,
        typer.Option(
            help="Prefill on a pool of work-groups; by default OV_MOE_BALANCE, or auto: from 64 experts on.",
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            help="Tokens that the blocks' buffers have room for; by default OV_MOE_MAX_TOKENS, or 512.", metavar="N"
        ),
    ] = None,
    report: Annotated[ReportFormat, typer.Option(help="How to print what was found.")] = ReportFormat.TABLE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only report; nothing is written.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT, if ov-moe wrote all in it.")] = False,
) -> None:
    """Rewrite the MoE blocks of every IR in a model's folder into a new folder; all other files are carried over.

    It needs no GPU: the schedule is chosen when the result is compiled. Exit status 1 where nothing can be rewritten.
    """
    with one_sentence():
        from ov_moe.folder.run import optimize_folder

        with _progress() as show:
            done = optimize_folder(
                source,
                output,
                balance.value if balance else None,
                max_tokens=max_tokens,
                force=force,
                dry_run=dry_run,
                progress=show,
            )
        _print_report(done, report)
        if not done.rewritten:
            raise InvalidInputError(_nothing_to_do(done))


def _print_report(done: FolderReport, report: ReportFormat) -> None:
    if report is ReportFormat.JSON:
        typer.echo(done.to_json())
        return
    done.print(tables(_WIDTH))


def _nothing_to_do(done: FolderReport) -> str:
    if done.already:
        return f"{done.source} is already optimised: start from the original IR to change balance or --max-tokens."
    if any(ir.report and ir.report.skipped for ir in done.irs):
        return f"{done.source} holds no MoE block that ov-moe can rewrite (the report says why): nothing to write."
    return f"{done.source} holds no MoE block: nothing to write."


@contextmanager
def _progress() -> Iterator[Any]:
    """A progress bar on stderr, where that is a terminal; yields what it hears: (what, bytes done, bytes in all)."""
    console = messages()
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("")

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield show


def run() -> None:
    """The command ``ov-moe``: ends with one sentence also where its own output cannot be written."""
    try:
        with one_sentence("Interrupted."):
            try:
                app()
            finally:
                sys.stdout.flush()  # else it fails behind the guard, where Python ends
    except typer.Exit as ending:
        sys.exit(ending.exit_code)


if __name__ == "__main__":
    run()
