"""Builds every kernel variant that the product can choose with Intel's offline compiler; no Intel GPU is needed.

Fails on errors; reports spills, and arrays that found no place in registers. Usage: scripts/check_intel_builds --help
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from ov_moe.devices import ocloc
from ov_moe.devices.intel_gpus import COMPUTE_UNITS, XMX_SUBGROUPS, intel_gpu
from ov_moe.devices.ocloc import Build
from ov_moe.errors import OvMoeError
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.block_program import Rows, block_program
from ov_moe.kernels.choose import choose_config, decode_config
from ov_moe.kernels.compose import compiler_options
from ov_moe.kernels.config import STANDARD, KernelConfig
from ov_moe.kernels.micro import MICRO_KERNELS, Dpas, MicroKernels
from ov_moe.kernels.stages import COMBINE, DOWN, ROUTE, Stage
from ov_moe.spec import Activation, DeviceInfo, Fetch, GateUpLayout, Precision, ProjectionSpec, Workload

MAX_TOKENS = 1024
FEW = 64
# Without XMX, with its sub-groups of 8, and of 16.
DEVICE_KINDS = tuple(DeviceInfo(COMPUTE_UNITS, xmx, subgroup=xmx or 8) for xmx in (0, 8, 16))
WORKLOAD = Workload(MAX_TOKENS, 128, 8, 2048, 768)
GPT_OSS_ACTIVATION = Activation("swiglu", beta=1.702, limit=7.0, up_offset=1.0)


@dataclass(frozen=True)
class Variant:
    """One program: a stage of a block, its configuration, and the type of its activations."""

    name: str
    stage: Stage
    block: BlockSpec
    config: KernelConfig
    buffers: Rows = "float16"

    def fits(self, device: str) -> bool:
        """Whether the product would choose it there: the rules, and the sub-group size of the device."""
        gpu = intel_gpu(device)
        return self.subgroup in (None, gpu.xmx_subgroup if self.config.micro.half_only else gpu.subgroup)

    @property
    def subgroup(self) -> int | None:
        """Work-items of a sub-group, where a micro-kernel asks for a size."""
        return self.config.micro.settings().get("subgroup") if self.stage.multiplies else None

    def text(self) -> str:
        """The complete program."""
        return block_program(self.stage, self.config, self.block, self.buffers)


def qwen3(precision: Precision, group: int = 0, zero: bool = False) -> BlockSpec:
    """Qwen3-30B-A3B: 128 experts of 768 x 2048, three GEMMs; ``group`` -1 is one scale a channel."""
    up = ProjectionSpec(precision, 768, 2048, 2048 if group < 0 else group, zero)
    down = ProjectionSpec(precision, 2048, 768, 768 if group < 0 else group, zero)
    return BlockSpec(128, 8, MAX_TOKENS, up, up, down).kept_in_range()


def gpt_oss(
    precision: Precision,
    group: int,
    layout: GateUpLayout = "interleaved",
    activation: Activation = GPT_OSS_ACTIVATION,
) -> BlockSpec:
    """GPT-OSS-20B: 32 experts of 2880 x 2880, gate and up in one matrix, biases."""
    both, down = (ProjectionSpec(precision, n, 2880, group) for n in (2 * 2880, 2880))
    block = BlockSpec(32, 4, MAX_TOKENS, both, None, down, layout, activation, gate_bias=True, down_bias=True)
    return block.kept_in_range()


def square(precision: Precision, side: int, group: int) -> BlockSpec:
    """Three matrices of side x side, for groups that divide no other shape."""
    spec = ProjectionSpec(precision, side, side, group, zero_point=True)
    return BlockSpec(128, 8, MAX_TOKENS, spec, spec, spec).kept_in_range()


NAMED = {"Qwen3-30B u4 g128": qwen3("u4", 128, zero=True), "GPT-OSS-20B mxfp4": gpt_oss("f4e2m1", 32)}
# What the named shapes leave out: the other formats, a group that no tile's K fits, layouts, activations.
OTHERS = {
    "f16": qwen3("f16"),
    "f32": qwen3("f32"),
    "u8 channel": qwen3("u8", -1, zero=True),
    "i8 g64": qwen3("i8", 64),
    "i4 g32": qwen3("i4", 32, zero=True),
    "u4 g48": square("u4", 768, 48),
    "u4 halves geglu_tanh": gpt_oss("u4", 64, "halves", Activation("geglu_tanh")),
    "i4 halves geglu_erf": gpt_oss("i4", 2880, "halves", Activation("geglu_erf")),
    "u8 interleaved reglu": gpt_oss("u8", 96, "interleaved", Activation("reglu")),
}


def schedules() -> dict[str, KernelConfig]:
    """Every schedule of prefill, and that of few tokens."""
    fetches: tuple[Fetch, Fetch] = ("ticket", "stride")
    grid = choose_config("off", 128, COMPUTE_UNITS)
    pools = {fetch: choose_config("on", 128, COMPUTE_UNITS, fetch) for fetch in fetches}
    return {**pools, "grid": grid, "decode": decode_config(grid.groups)}


def variants(kinds: MicroKernels = MICRO_KERNELS) -> Iterator[Variant]:
    """What the product can choose: each micro-kernel of the table in the tiles of every kind of device that it suits.

    The named shapes are built in every schedule, the other blocks in the first. Micro-kernels with the same rows of a
    tile share Route, and with the same columns Combine.
    """
    done = set[KernelConfig | str]()
    for kind in kinds.values():
        for device in DEVICE_KINDS:
            every_block = True
            for which, schedule in schedules().items():
                few = which == "decode"
                workload = replace(WORKLOAD, few=few, tokens=FEW if few else MAX_TOKENS)
                if kind.unsuited(workload, device) is not None:
                    continue
                config = kind.placed(schedule, workload, device)
                if config not in done:
                    done.add(config)
                    for variant in _of_configuration(which, config, every_block):
                        text = variant.text()
                        if text not in done:
                            done.add(text)
                            yield variant
                every_block = False


def _of_configuration(which: str, config: KernelConfig, every_block: bool) -> Iterator[Variant]:
    """Its GEMMs; for named shapes on both types of activations, and Route and Combine, which know its tiles."""
    reals: tuple[Rows, Rows] = ("float16", "float32")
    subgroup = config.micro.settings().get("subgroup")
    label = f"{which} {config.micro.name}" + (f" of {subgroup}" if subgroup else "")
    for name, block in {**NAMED, **(OTHERS if every_block else {})}.items():
        for real in reals if name in NAMED else reals[:1]:
            for stage in (block.gate_up_stage, DOWN):
                yield Variant(f"{name} {label} {real}", stage, block, config, real)
            if name in NAMED and which in ("ticket", "decode"):
                yield Variant(f"{name} {label} {real}", COMBINE, block, config, real)
        if name in NAMED and which in ("ticket", "decode"):
            yield Variant(f"{name} {label}", ROUTE, block, config)


def check(variant: Variant, device: str) -> Build:
    """Build it; dpas must be in the code of GEMMs on f16 buffers that are to have it, and nowhere else."""
    options = (STANDARD, *compiler_options(variant.stage, variant.config))
    build = ocloc.build(variant.text(), variant.stage.entry, device, options)
    wanted = isinstance(variant.config.micro, Dpas) and variant.stage.multiplies and variant.buffers == "float16"
    if build.error is None and wanted != bool(build.dpas):
        return replace(build, error=f"the code holds {build.dpas or 'no'} dpas instruction{'s' * (build.dpas > 1)}")
    return build


def table(device: str, rows: list[tuple[Variant, Build]]) -> Table:
    """One line a build."""
    result = Table(title=device, title_justify="left")
    for name in ("kernel", "variant", "result"):
        result.add_column(name, overflow="fold")
    for name in ("spills", "memory", "registers", "SIMD", "local", "dpas", "s"):
        result.add_column(name, justify="right", no_wrap=True)
    for variant, build in rows:
        numbers = [build.spilled, build.memory_bytes, build.registers, build.simd, build.local_bytes, build.dpas]
        result.add_row(
            build.entry.removeprefix("ov_moe_"),
            variant.name,
            f"[red]{escape(build.error)}[/]" if build.error else "ok",
            *(["-"] * len(numbers) if build.error else [str(n) if n else "" for n in numbers]),
            f"{build.seconds:.2f}",
        )
    return result


def main(
    device: Annotated[list[str] | None, typer.Option(help=f"Build for one of {', '.join(XMX_SUBGROUPS)}.")] = None,
    only: Annotated[str, typer.Option(help="Build the variants whose kernel or name holds this.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of records instead of a table.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Compilers at a time.")] = 1,
) -> None:
    """Build every kernel variant for Intel GPUs with ocloc; the exit code is 1 if one does not build."""
    chosen = [variant for variant in variants() if only in f"{variant.stage.entry} {variant.name}"]
    try:
        work = [(name, variant) for name in device or ocloc.DEVICES for variant in chosen if variant.fits(name)]
        if not work:
            raise typer.BadParameter(f"no variant holds {only!r}", param_hint="--only")
        ocloc.find()
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(check, variant, name) for name, variant in work]
            quiet = as_json or not sys.stderr.isatty()
            done = [f.result() for f in track(futures, console=Console(stderr=True), disable=quiet)]
    except OvMoeError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    rows = [(variant, build) for (_, variant), build in zip(work, done, strict=True)]
    failed = sum(build.error is not None for build in done)
    if as_json:
        typer.echo(json.dumps([{"variant": variant.name, **asdict(build)} for variant, build in rows], indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 130)
        for name in dict.fromkeys(build.device for build in done):
            console.print(table(name, [row for row in rows if row[1].device == name]))
        spilled, memory = sum(b.spilled > 0 for b in done), sum(b.memory_bytes > 0 for b in done)
        console.print(f"{len(done)} builds, {failed} errors; {spilled} report spills, {memory} keep values in memory.")
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
