"""``ov-moe kernels bench``: options, progress, tables and files. Importing it does not import openvino."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ov_moe.commands.figures import figure_format
from ov_moe.commands.guard import one_sentence
from ov_moe.commands.output_files import check_writable
from ov_moe.commands.stop import STOPS, IncompleteError, Stop
from ov_moe.devices.timing import select_device
from ov_moe.errors import InvalidInputError, OutputError
from ov_moe.kernel_bench import distributions, records
from ov_moe.kernel_bench.cost import STAGES
from ov_moe.kernel_bench.limits import measure_limits
from ov_moe.kernel_bench.measure import FLUSH_BYTES, Flush
from ov_moe.kernel_bench.plan import Plan, read_settings, whole_numbers, words
from ov_moe.kernel_bench.plot import write_plot
from ov_moe.kernel_bench.records import Row
from ov_moe.kernel_bench.runner import run_plan
from ov_moe.kernel_bench.schedules import SCHEDULES, find_schedule
from ov_moe.kernel_bench.shapes import SHAPES, find_shape
from ov_moe.kernel_bench.table import CPU_NOTE, make_table

_WIDTH = 150
_SCHEDULES = "grid,pool-stride,pool-ticket"

app = typer.Typer(no_args_is_help=False, add_completion=False, pretty_exceptions_enable=False)


def _help(text: str, names: str = "LIST") -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=text, metavar=names)
    return option


@app.command()
def bench(
    shape: Annotated[str, _help(f"{', '.join(SHAPES)}, or sizes H/I/E/k.")] = "qwen3-30b,gpt-oss-20b",
    tokens: Annotated[str, _help("Numbers of tokens.")] = "16,128,1024,4096",
    distribution: Annotated[
        str, _help(f"{', '.join(distributions.NAMES)}; also recorded:FILE.csv@LAYER.")
    ] = "uniform,power1.2",
    precision: Annotated[str, _help("Of the weights: f16, u8, i8, u4, i4, f4e2m1, f32.")] = "u4",
    schedule: Annotated[str, _help("See --list.")] = _SCHEDULES,
    stage: Annotated[str, _help(f"{', '.join(STAGES)}: one of the kernels alone.")] = "layer",
    baseline: Annotated[str, typer.Option(help="The schedule that ratios refer to.")] = "grid",
    group: Annotated[int | None, typer.Option(help="Weights that share a scale; -1: a channel.")] = None,
    room: Annotated[int | None, typer.Option(help="Tokens that the buffers have room for; default: T.")] = None,
    activations: Annotated[str, typer.Option(help="float16 or float32: x, h, d and y.")] = "float16",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the kernel configuration.", metavar="NAME=VALUE")
    ] = None,
    repeats: Annotated[int, typer.Option(min=2, help="Timed runs of each variant.")] = 20,
    seconds: Annotated[float, typer.Option(min=0, help="Start no new round of a stage after this.")] = 5.0,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, tokens and ids.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu (Intel's runtime), or part of a device's name.")] = "auto",
    flush_mib: Annotated[int, typer.Option(min=1, help="Bytes written before each run, in MiB.")] = FLUSH_BYTES >> 20,
    json: Annotated[Path | None, typer.Option(help="Write all rows with device and versions.")] = None,
    csv: Annotated[Path | None, typer.Option(help="The same as CSV.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw time against tokens (.png, .svg, .pdf).")] = None,
    names: Annotated[bool, typer.Option("--list", help="List shapes and schedules and leave.")] = False,
) -> None:
    """Time the kernels on an OpenCL device, schedules side by side; each row is checked against the oracle first."""
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDTH, soft_wrap=True)
    with one_sentence():
        if names:
            _list(console)
            return
        check_writable((json, csv, plot))
        if plot:
            figure_format(plot)
        plan = Plan(
            shapes=[find_shape(name) for name in words(shape)],
            precisions=words(precision),
            tokens=whole_numbers(tokens),
            distributions=words(distribution),
            schedules=[find_schedule(name) for name in words(schedule)],
            stages=[_stage(word) for word in words(stage)],
            baseline=baseline,
            group=group,
            room=room,
            activations=_real(activations),
            settings=read_settings(settings or ()),
            repeats=repeats,
            seconds=seconds,
            seed=seed,
        )
        rows = _run(plan, device, flush_mib << 20, console, json, csv, plot)
    failed = [row for row in rows if not row.ok]
    for reason in dict.fromkeys(f"{row.schedule} failed: {row.why}" for row in failed):
        typer.echo(f"ov-moe: {reason}", err=True)
    if failed:
        raise typer.Exit(1)


def _run(
    plan: Plan, wish: str, flush_bytes: int, console: Console, json: Path | None, csv: Path | None, plot: Path | None
) -> list[Row]:
    device = select_device(wish)
    limits = measure_limits(device) if device.is_gpu else None
    flush = Flush(device, flush_bytes)
    head = records.header(device.describe(), limits, flush.size)
    console.print(f"{device.name}, driver {head['device']['driver']}, {head['device']['platform_version']}")
    if limits is not None:
        console.print(
            f"limits measured here: {limits.flops * 1e-12:.1f} TFLOP/s ({limits.arithmetic}), "
            f"{limits.bandwidth * 1e-9:.0f} GB/s read"
        )
    else:
        console.print(CPU_NOTE)
    rows: list[Row] = []

    def write() -> None:
        if json:
            records.write_json(json, head, rows)
        if csv:
            records.write_csv(csv, head, rows)

    def on_rows(new: list[Row]) -> None:
        rows.extend(new)
        write()
        line = new[0]
        good = [f"{row.schedule} {'FAILED' if row.ratio is None else format(row.ratio, '.2f')}" for row in new]
        console.print(
            f"  {line.shape} {line.precision} {line.stage} {line.distribution} T={line.tokens}: {', '.join(good)}",
            highlight=False,
        )

    stop, unwritten = None, None
    try:
        run_plan(plan, device, limits, flush, on_rows)
    except OutputError as error:  # shown, and not written
        stop, unwritten = Stop.by(error), error
    except STOPS as error:
        if not rows:
            raise
        stop = Stop.by(error)
    planned = len(plan.shapes) * len(plan.precisions) * len(plan.distributions) * len(plan.tokens) * len(plan.stages)
    share = f"{len(rows)} of {planned * len(plan.schedules)} rows"
    if stop is None:
        head["complete"] = True
        write()
    key = lambda row: (row.shape, row.precision, row.stage)  # noqa: E731
    for _, part in itertools.groupby(sorted(rows, key=key), key):
        console.print(make_table(list(part), device.is_gpu))
    early = "" if stop is None else f", incomplete: {share}"
    if stop is not None:
        console.print(f"INCOMPLETE, {share}: {stop.reason}", highlight=False)
    if plot and (stop is None or any(row.ok and row.ratio is not None for row in rows)):
        write_plot(plot, rows, f"{device.name}, driver {head['device']['driver']}{early}")
    if unwritten is not None:
        raise unwritten
    if stop is not None:
        raise IncompleteError(stop, share)
    return rows


def _stage(word: str) -> str:
    if word not in STAGES:
        raise InvalidInputError(f"stage {word!r} is unknown: use {', '.join(STAGES)}.")
    return word


def _real(word: str) -> str:
    if word not in ("float16", "float32"):
        raise InvalidInputError(f"activations {word!r} are not served: use float16 or float32.")
    return word


def _list(console: Console) -> None:
    console.print("shapes: hidden / intermediate / experts / top-k", highlight=False)
    for shape in SHAPES.values():
        sizes = f"{shape.hidden} / {shape.intermediate} / {shape.experts} / {shape.top_k}"
        console.print(f"  {shape.name:18} {sizes}", highlight=False)
    console.print("schedules", highlight=False)
    for schedule in SCHEDULES.values():
        console.print(f"  {schedule.name:20} {schedule.summary}", highlight=False, markup=False)
