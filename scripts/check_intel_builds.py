"""Builds every kernel variant that the product can choose with Intel's offline compiler; no Intel GPU is needed.

Fails on errors; reports spills, and arrays that found no place in registers. Usage: scripts/check_intel_builds --help
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from ov_moe.devices import ocloc
from ov_moe.devices.ocloc import Build
from ov_moe.errors import DeviceError
from ov_moe.kernels.attributes import FOUR_BIT
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.choose import choose_config, decode_config, dpas_config, gemv_config
from ov_moe.kernels.compose import compiler_options, program
from ov_moe.kernels.config import STANDARD, KernelConfig
from ov_moe.kernels.stages import COMBINE, DOWN, ROUTE, Stage
from ov_moe.spec import Activation, Fetch, GateUpLayout, Precision, ProjectionSpec

MAX_TOKENS = 1024
COMPUTE_UNITS = 512  # of an Arc A770
# The last four need a newer ocloc than Debian 12's: name them by --device.
XMX_SUBGROUPS = {"acm-g10": 8, "pvc": 16, "arl-h": 8, "bmg": 16, "lnl-m": 16, "ptl-h": 16}
Buffers = Literal["float16", "float32"]  # what the plugin's precision hint makes of x, h, d and y
Buffer = tuple[tuple[int, ...], str]  # shape and element type
GPT_OSS_ACTIVATION = Activation("swiglu", beta=1.702, limit=7.0, up_offset=1.0)


@dataclass(frozen=True)
class Variant:
    """One program: a stage of a block, its configuration, and the type of its activations."""

    name: str
    stage: Stage
    block: BlockSpec
    config: KernelConfig
    buffers: Buffers = "float16"

    def fits(self, device: str) -> bool:
        """Whether the product would choose it there: dpas needs XMX, and the sub-group size of the device."""
        if self.config.micro_kernel == "gemv":
            return self.config.subgroup == XMX_SUBGROUPS.get(device, 8)
        return self.config.micro_kernel != "dpas" or self.config.subgroup == XMX_SUBGROUPS.get(device)

    def text(self) -> str:
        """The complete program."""
        block, real = self.block, self.buffers
        tokens, rows = block.max_tokens, block.plan_layout.max_rows
        plan = ((block.plan_layout.size, 1), "int32")
        x, h, d = ((tokens, block.hidden), real), ((rows, block.h_columns), real), ((rows, block.d_columns), real)
        inputs: list[Buffer]
        output: Buffer
        if self.stage.runs(ROUTE):
            inputs, output = [((tokens, block.top_k), "int32")], plan
        elif self.stage.runs(COMBINE):
            inputs, output = [d, plan, ((tokens, block.top_k), real)], x
        elif self.stage.runs(DOWN):
            inputs, output = [h, plan, *weights(block, block.down), ((block.experts, block.hidden), real)], d
        else:
            bias: list[Buffer] = [((block.experts, 2 * block.intermediate), real)]
            rest = bias if block.up is None else weights(block, block.up)
            inputs, output = [x, plan, *weights(block, block.gate), *rest], h
        return program(self.stage, self.config, block.attributes(), inputs, output)


def weights(block: BlockSpec, spec: ProjectionSpec) -> list[Buffer]:
    """Values, scales and zero points as the operations take them; what is absent is one number."""
    absent: Buffer = ((1,), "float32")
    if not spec.group_size:
        return [((block.experts, spec.n, spec.k), "float16" if spec.precision == "f16" else "float32"), absent, absent]
    four_bit = spec.precision in FOUR_BIT
    groups = block.experts * spec.n * spec.groups
    values = (block.experts, spec.n, spec.k // 2 if four_bit else spec.k)
    zeros = ((-(-groups // 2) if four_bit else groups,), "int8" if spec.precision == "i8" else "uint8")
    scales = ((groups,), "uint8" if spec.precision == "f4e2m1" else "float16")
    return [(values, "int8" if spec.precision == "i8" else "uint8"), scales, zeros if spec.zero_point else absent]


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


def configurations() -> Iterator[tuple[str, KernelConfig]]:
    """Every schedule, and few tokens."""
    fetches: tuple[Fetch, Fetch] = ("ticket", "stride")
    for fetch in fetches:
        yield fetch, choose_config("on", 128, COMPUTE_UNITS, fetch)
    grid = choose_config("off", 128, COMPUTE_UNITS)
    yield "grid", grid
    yield "decode", decode_config(grid.groups)


def variants() -> Iterator[Variant]:
    """The named shapes in every schedule and both types of activations; the other blocks in one of each."""
    reals: tuple[Buffers, Buffers] = ("float16", "float32")
    settings = dict(configurations())
    for name, block in NAMED.items():
        for real in reals:
            for which, config in settings.items():
                for stage in (block.gate_up_stage, DOWN):
                    yield Variant(f"{name} {which} {real}", stage, block, config, real)
            yield Variant(f"{name} {real}", COMBINE, block, settings["ticket"], real)
        yield Variant(name, ROUTE, block, settings["ticket"])
    for name, block in OTHERS.items():
        for stage in (block.gate_up_stage, DOWN):
            yield Variant(f"{name} ticket float16", stage, block, settings["ticket"])


def dpas_variants() -> Iterator[Variant]:
    """What XMX devices get: dpas for f16 buffers, fma in its tiles for f32 buffers; Route and Combine in its groups."""
    settings = dict(configurations())
    for subgroup in sorted(set(XMX_SUBGROUPS.values())):
        for name, block in {**NAMED, **OTHERS}.items():
            for which in settings if name in NAMED else ("ticket",):
                config = dpas_config(settings[which], subgroup)
                for stage in (block.gate_up_stage, DOWN):
                    yield Variant(f"{name} {which} dpas of {subgroup}", stage, block, config)
                    if name in NAMED and which in ("ticket", "decode"):
                        yield Variant(f"{name} {which} dpas of {subgroup}, f32", stage, block, config, "float32")
                if name in NAMED and which in ("ticket", "decode"):
                    for stage in (ROUTE, COMBINE):
                        yield Variant(f"{name} {which} dpas of {subgroup}", stage, block, config)


def gemv_variants() -> Iterator[Variant]:
    """Decode where dpas is not taken, on either type of buffers; all formats, in the device's sub-groups."""
    for subgroup in (8, 16):
        config = gemv_config(decode_config(2 * COMPUTE_UNITS), subgroup)
        for name, block in {**NAMED, **OTHERS}.items():
            reals: tuple[Buffers, ...] = ("float16", "float32") if name in NAMED else ("float16",)
            for real in reals:
                for stage in (block.gate_up_stage, DOWN):
                    yield Variant(f"{name} gemv of {subgroup} {real}", stage, block, config, real)


def check(variant: Variant, device: str) -> Build:
    """Build it; dpas must be in the code of GEMMs on f16 buffers that are to have it, and nowhere else."""
    options = (STANDARD, *compiler_options(variant.stage, variant.config))
    build = ocloc.build(variant.text(), variant.stage.entry, device, options)
    wanted = variant.config.micro_kernel == "dpas" and variant.stage.multiplies and variant.buffers == "float16"
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
    device: Annotated[list[str] | None, typer.Option(help=f"Build for this one; {', '.join(ocloc.DEVICES)}.")] = None,
    only: Annotated[str, typer.Option(help="Build the variants whose kernel or name holds this.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of records instead of a table.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Compilers at a time.")] = 1,
) -> None:
    """Build every kernel variant for Intel GPUs with ocloc; the exit code is 1 if one does not build."""
    chosen = [v for v in (*variants(), *gemv_variants(), *dpas_variants()) if only in f"{v.stage.entry} {v.name}"]
    work = [(name, variant) for name in device or ocloc.DEVICES for variant in chosen if variant.fits(name)]
    if not work:
        raise typer.BadParameter(f"no variant holds {only!r}", param_hint="--only")
    try:
        ocloc.find()
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(check, variant, name) for name, variant in work]
            quiet = as_json or not sys.stderr.isatty()
            done = [f.result() for f in track(futures, console=Console(stderr=True), disable=quiet)]
    except DeviceError as error:
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
