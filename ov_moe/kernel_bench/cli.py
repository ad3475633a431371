"""``ov-moe kernels bench``: progress, tables and files. Importing it does not import openvino."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import typer
from rich.console import Console

from ov_moe.commands.console import tables
from ov_moe.commands.figures import figure_format
from ov_moe.commands.guard import one_sentence
from ov_moe.commands.options_record import command_from
from ov_moe.commands.output_files import check_writable
from ov_moe.commands.stop import STOPS, IncompleteError, Stop
from ov_moe.devices.timing import TimingDevice, select_device
from ov_moe.errors import OutputError
from ov_moe.kernel_bench import records
from ov_moe.kernel_bench.cost import Limits
from ov_moe.kernel_bench.limits import measure_limits
from ov_moe.kernel_bench.measure import Flush
from ov_moe.kernel_bench.options import KernelBenchOptions
from ov_moe.kernel_bench.plan import Plan
from ov_moe.kernel_bench.plot import write_plot
from ov_moe.kernel_bench.records import Row
from ov_moe.kernel_bench.runner import run_plan
from ov_moe.kernel_bench.schedules import MICRO_KERNELS, SCHEDULES
from ov_moe.kernel_bench.shapes import SHAPES
from ov_moe.kernel_bench.table import CPU_NOTE, make_table

_WIDTH = 150

app = typer.Typer(no_args_is_help=False, add_completion=False, pretty_exceptions_enable=False)


def run(options: KernelBenchOptions) -> None:
    """Time the kernels on an OpenCL device, schedules side by side; each row is checked against the oracle first."""
    console = tables(_WIDTH, soft_wrap=True)
    with one_sentence():
        if options.names:
            _list(console)
            return
        check_writable((options.json, options.csv, options.plot))
        if options.plot:
            figure_format(options.plot)
        rows = _measure(options.plan(), options, console)
    failed = [row for row in rows if not row.ok]
    for reason in dict.fromkeys(f"{row.schedule} failed: {row.why}" for row in failed):
        typer.echo(f"ov-moe: {reason}", err=True)
    if failed:
        raise typer.Exit(1)


class _Output:
    """The rows so far: each is printed, and all of them are written, as soon as it is there."""

    def __init__(self, options: KernelBenchOptions, console: Console, head: dict[str, Any]) -> None:
        self.rows: list[Row] = []
        self.head = head
        self._options, self._console = options, console

    def add(self, new: Sequence[Row]) -> None:
        """More rows, of one case and stage."""
        self.rows.extend(new)
        self.write()
        line = new[0]
        good = [f"{row.schedule} {'FAILED' if row.ratio is None else format(row.ratio, '.2f')}" for row in new]
        self._console.print(
            f"  {line.shape} {line.precision} {line.stage} {line.distribution} T={line.tokens}: {', '.join(good)}",
            highlight=False,
        )

    def write(self) -> None:
        """All rows into the files that are wanted."""
        if self._options.json:
            records.write_json(self._options.json, self.head, self.rows)
        if self._options.csv:
            records.write_csv(self._options.csv, self.head, self.rows)

    def print_tables(self, gpu: bool) -> None:
        """One for each shape, precision and stage."""
        key = lambda row: (row.shape, row.precision, row.stage)  # noqa: E731
        for _, part in itertools.groupby(sorted(self.rows, key=key), key):
            self._console.print(make_table(list(part), gpu))


def _measure(plan: Plan, options: KernelBenchOptions, console: Console) -> list[Row]:
    device = select_device(options.device)
    limits = measure_limits(device) if device.is_gpu else None
    flush = Flush(device, options.flush_mib << 20)
    output = _Output(options, console, records.header(device.describe(), limits, flush.size))
    about = _print_device(console, device, output.head, limits)
    stop, unwritten, rows = None, None, output.rows
    try:
        run_plan(plan, device, limits, flush, output.add)
    except OutputError as error:  # shown, and not written
        stop, unwritten = Stop.by(error), error
    except STOPS as error:
        if not rows:
            raise
        stop = Stop.by(error)
    if stop is None:
        output.head["complete"] = True
        output.write()
    output.print_tables(device.is_gpu)
    share = f"{len(rows)} of {plan.rows} rows"
    early = "" if stop is None else f", incomplete: {share}"
    if stop is not None:
        console.print(f"INCOMPLETE, {share}: {stop.reason}", highlight=False)
    if options.plot and (stop is None or any(row.ok and row.ratio is not None for row in rows)):
        write_plot(options.plot, rows, f"{about}{early}")
    if unwritten is not None:
        raise unwritten
    if stop is not None:
        raise IncompleteError(stop, share)
    return rows


def _print_device(console: Console, device: TimingDevice, head: dict[str, Any], limits: Limits | None) -> str:
    """What is measured, and its limits; returns the device's name and driver."""
    about = f"{device.name}, driver {head['device']['driver']}"
    console.print(f"{about}, {head['device']['platform_version']}")
    if limits is not None:
        console.print(
            f"limits measured here: {limits.flops * 1e-12:.1f} TFLOP/s ({limits.arithmetic}), "
            f"{limits.bandwidth * 1e-9:.0f} GB/s read"
        )
    else:
        console.print(CPU_NOTE)
    return about


def _list(console: Console) -> None:
    console.print("shapes: hidden / intermediate / experts / top-k", highlight=False)
    for shape in SHAPES.values():
        sizes = f"{shape.hidden} / {shape.intermediate} / {shape.experts} / {shape.top_k}"
        console.print(f"  {shape.name:18} {sizes}", highlight=False)
    console.print("schedules", highlight=False)
    for schedule in SCHEDULES.values():
        console.print(f"  {schedule.name:20} {schedule.summary}", highlight=False, markup=False)
    console.print("micro-kernels: what for; the words of OV_MOE_MICRO_KERNEL; fields for --set", highlight=False)
    for kind in MICRO_KERNELS.values():
        words, names = ", ".join(kind.words) or "no word", ", ".join(field.name for field in fields(kind))
        console.print(f"  {kind.name:6} {kind.workload}; {words}; {names}", highlight=False, markup=False)


bench = command_from(KernelBenchOptions, run)
app.command("bench")(bench)
