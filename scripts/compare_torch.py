#!/usr/bin/env python3
"""The same MoE layer through torch._grouped_mm on CUDA, next to the OpenCL kernels, in one process and one run.

Both see the same tokens, ids and top-k weights; torch gets the dequantised weights in bfloat16, the kernels get them as
they are stored. Each side is checked against the float64 oracle before it is timed, then they take turns, A B B A, each
behind a flush of the caches. Ratios are torch's median divided by the schedule's: above 1 the schedule is faster.

    python scripts/compare_torch.py --shape qwen3-30b --tokens 16,128,1024 --distribution power1.2 --json torch.json
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ov_moe.commands.console import tables
from ov_moe.commands.options_record import command_from
from ov_moe.devices.timing import select_device
from ov_moe.errors import DeviceError, OvMoeError
from ov_moe.kernel_bench import oracle, records
from ov_moe.kernel_bench.cost import gemm_flops
from ov_moe.kernel_bench.limits import measure_limits
from ov_moe.kernel_bench.measure import FLUSH_BYTES, Flush, Timing, interleave, timed
from ov_moe.kernel_bench.plan import Plan, read_settings, whole_numbers, words
from ov_moe.kernel_bench.records import Row
from ov_moe.kernel_bench.runner import Contest, prepare_cases
from ov_moe.kernel_bench.schedules import find_schedule
from ov_moe.kernel_bench.shapes import find_shape
from ov_moe.kernel_bench.table import make_table
from ov_moe.kernel_bench.torch_layer import BF16_EPS, TorchLayer, cuda_timed, find_torch, graphed


def torch_row(like: Row, name: str, version: str, timing: Timing, error: float | None, base: Timing) -> Row:
    """The row of a torch variant next to the kernels' rows."""
    flops = gemm_flops(like.hidden, like.intermediate, like.rows)
    nothing: dict[str, Any] = dict.fromkeys(
        ("gbs", "bound", "fraction", "launches", "groups", "live", "padded", "tolerance")
    )
    measured = {"ms": timing.median, "ms_low": timing.low, "ms_high": timing.high, "spread": timing.spread}
    return replace(
        like,
        schedule=name,
        config=f"torch {version} bfloat16",
        precision="bf16",
        host_counts=False,
        ok=True,
        why="",
        error=error,
        runs=timing.runs,
        tflops=flops / timing.median * 1e-9,
        ratio=base.median / timing.median,
        repro="",
        **nothing,
        **measured,
    )


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the command line."""

    shape: Annotated[str, typer.Option(help="Names as in ov-moe kernels bench --list.")] = "qwen3-30b"
    tokens: Annotated[str, typer.Option(help="Numbers of tokens, with commas.")] = "16,128,1024,4096"
    distribution: Annotated[str, typer.Option(help="Names, with commas.")] = "power1.2"
    precision: Annotated[str, typer.Option(help="Of the kernels' weights.")] = "u4"
    schedule: Annotated[str, typer.Option(help="Names, with commas.")] = "grid,pool-ticket"
    settings: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of the configuration.")] = None
    graph: Annotated[bool, typer.Option(help="Also time torch's layer as one CUDA graph.")] = True
    repeats: Annotated[int, typer.Option(min=2)] = 20
    seconds: Annotated[float, typer.Option(min=0, help="Start no new round of a case after this.")] = 10.0
    seed: Annotated[int, typer.Option(min=0)] = 0
    device: Annotated[str, typer.Option(help="The OpenCL device: auto or part of its name.")] = "auto"
    json: Annotated[Path | None, typer.Option(help="Write all rows.")] = None

    def plan(self) -> Plan:
        """What to measure."""
        schedules = [find_schedule(name) for name in words(self.schedule)]
        return Plan(
            shapes=[find_shape(name) for name in words(self.shape)],
            precisions=[self.precision],
            tokens=whole_numbers(self.tokens),
            distributions=words(self.distribution),
            schedules=schedules,
            stages=["layer"],
            baseline=schedules[0].name,
            settings=read_settings(self.settings or ()),
            repeats=self.repeats,
            seconds=self.seconds,
            seed=self.seed,
        )


def compare(options: Options) -> None:
    """Time torch and the kernels side by side."""
    try:
        torch = find_torch()
        run_comparison(torch, options.plan(), options.device, options.graph, options.json)
    except OvMoeError as error:
        typer.echo(f"compare_torch: {error}", err=True)
        raise typer.Exit(1) from None


def run_comparison(torch: Any, plan: Plan, wish: str, graph: bool, json: Path | None) -> None:
    """Measure, print a table for each shape, and write the rows."""
    console, device = tables(150), select_device(wish)
    limits, flush = measure_limits(device), Flush(device, FLUSH_BYTES)
    head = records.header(device.describe(), limits, flush.size) | {"torch": torch.__version__}
    console.print(f"OpenCL: {device.name}; torch {torch.__version__}: {torch.cuda.get_device_name()}")
    rows: list[Row] = []
    for shape in plan.shapes:
        layer, begin = None, len(rows)
        for prepared in prepare_cases(plan, device, shape, plan.precisions[0]):
            case = prepared.case
            layer = layer or TorchLayer(torch, case.weights.block)
            run = layer.layer(case.inputs)
            y = run().float().cpu().numpy()[prepared.sample.tokens]
            error = oracle.relative_error(y, prepared.exact)
            allowed = oracle.tolerance(shape.hidden, shape.intermediate, BF16_EPS)
            if not error <= allowed:
                raise DeviceError(f"torch's layer differs from the oracle by {error:.2g} ({allowed:.2g} is allowed).")
            contest = Contest(plan, prepared)
            sides = {"torch": run, "torch-gemms": layer.gemms(case.inputs)}
            if graph:
                sides["torch-graph"] = graphed(torch, run)
            variants = {name: cuda_timed(torch, side, flush.size, name == "torch") for name, side in sides.items()}
            variants |= {name: timed(ours, "layer", flush) for name, ours in contest.runs.items()}
            timings = dict(zip(variants, interleave(list(variants.values()), plan.repeats, plan.seconds), strict=True))
            ours = [replace(row, baseline="torch") for row in contest.rows("layer", timings, timings["torch"], limits)]
            rows += ours
            for name in sides:
                same = None if name == "torch-gemms" else error
                rows.append(torch_row(ours[0], name, torch.__version__, timings[name], same, timings["torch"]))
            if json:
                records.write_json(json, head, rows)
        console.print(make_table(rows[begin:], gpu=True))
    for reason in dict.fromkeys(f"{row.schedule} failed: {row.why}" for row in rows if not row.ok):
        console.print(reason)


if __name__ == "__main__":
    typer.run(command_from(Options, compare))
