"""What ``ov-moe kernels bench`` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench import distributions
from ov_moe.kernel_bench.cost import STAGES
from ov_moe.kernel_bench.measure import FLUSH_BYTES
from ov_moe.kernel_bench.plan import Plan, read_settings, whole_numbers, words
from ov_moe.kernel_bench.schedules import find_schedule
from ov_moe.kernel_bench.shapes import SHAPES, find_shape
from ov_moe.kernels.block_program import ACTIVATIONS
from ov_moe.kernels.formats import FORMATS


def _help(text: str, names: str = "LIST") -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=text, metavar=names)
    return option


@dataclass(frozen=True, kw_only=True)
class KernelBenchOptions:
    """The options of the command line."""

    shape: Annotated[str, _help(f"{', '.join(SHAPES)}, or sizes H/I/E/k.")] = "qwen3-30b,gpt-oss-20b"
    tokens: Annotated[str, _help("Numbers of tokens.")] = "16,128,1024,4096"
    distribution: Annotated[str, _help(f"{', '.join(distributions.NAMES)}; also recorded:FILE.csv@LAYER.")] = (
        "uniform,power1.2"
    )
    precision: Annotated[str, _help(f"Of the weights: {', '.join(FORMATS)}.")] = "u4"
    schedule: Annotated[str, _help("See --list.")] = "grid,pool-stride,pool-ticket"
    stage: Annotated[str, _help(f"{', '.join(STAGES)}: one of the kernels alone.")] = "layer"
    baseline: Annotated[str, typer.Option(help="The schedule that ratios refer to.")] = "grid"
    group: Annotated[int | None, typer.Option(help="Weights that share a scale; -1: a channel.")] = None
    room: Annotated[int | None, typer.Option(help="Tokens that the buffers have room for; default: T.")] = None
    activations: Annotated[str, typer.Option(help="float16 or float32: x, h, d and y.")] = "float16"
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the kernel configuration.", metavar="NAME=VALUE")
    ] = None
    repeats: Annotated[int, typer.Option(min=2, help="Timed runs of each variant.")] = 20
    seconds: Annotated[float, typer.Option(min=0, help="Start no new round of a stage after this.")] = 5.0
    seed: Annotated[int, typer.Option(min=0, help="Of weights, tokens and ids.")] = 0
    device: Annotated[str, typer.Option(help="auto, cpu (Intel's runtime), or part of a device's name.")] = "auto"
    flush_mib: Annotated[int, typer.Option(min=1, help="Bytes written before each run, in MiB.")] = FLUSH_BYTES >> 20
    json: Annotated[Path | None, typer.Option(help="Write all rows with device and versions.")] = None
    csv: Annotated[Path | None, typer.Option(help="The same as CSV.")] = None
    plot: Annotated[Path | None, typer.Option(help="Draw time against tokens (.png, .svg, .pdf).")] = None
    names: Annotated[bool, typer.Option("--list", help="List shapes, schedules and micro-kernels and leave.")] = False

    def plan(self) -> Plan:
        """What to measure; raises InvalidInputError for what there is not."""
        return Plan(
            shapes=[find_shape(name) for name in words(self.shape)],
            precisions=words(self.precision),
            tokens=whole_numbers(self.tokens),
            distributions=words(self.distribution),
            schedules=[find_schedule(name) for name in words(self.schedule)],
            stages=[_stage(word) for word in words(self.stage)],
            baseline=self.baseline,
            group=self.group,
            room=self.room,
            activations=_real(self.activations),
            settings=read_settings(self.settings or ()),
            repeats=self.repeats,
            seconds=self.seconds,
            seed=self.seed,
        )


def _stage(word: str) -> str:
    if word not in STAGES:
        raise InvalidInputError(f"stage {word!r} is unknown: use {', '.join(STAGES)}.")
    return word


def _real(word: str) -> str:
    if word not in ACTIVATIONS:
        raise InvalidInputError(f"activations {word!r} are not served: use float16 or float32.")
    return word
