"""What ``ov-moe kernels show`` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ov_moe.devices.intel_gpus import XMX_SUBGROUPS
from ov_moe.kernel_bench.shapes import SHAPES
from ov_moe.kernel_show.choice import STAGES
from ov_moe.kernels.formats import FORMATS
from ov_moe.kernels.micro import switch_words
from ov_moe.options import FEW_TOKENS, Config

OPENCL = "cl"
"""The word for this machine's OpenCL device."""


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """The options of the command line."""

    shape: Annotated[str, typer.Option(help=f"{', '.join(SHAPES)}, or sizes H/I/E/k.")] = "qwen3-30b"
    precision: Annotated[str, typer.Option(help=f"Of the weights: {', '.join(FORMATS)}.")] = "u4"
    group: Annotated[int | None, typer.Option(help="Weights that share a scale; -1: a channel.")] = None
    activations: Annotated[str, typer.Option(help="float16 or float32: x, h, d and y.")] = "float16"
    stage: Annotated[str, typer.Option(help=f"{', '.join(STAGES)}.")] = "gate_up"
    tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Tokens that the buffers have room for; {Config().max_tokens} by default, {FEW_TOKENS} of --decode.",
        ),
    ] = None
    balance: Annotated[str, typer.Option(help="on (a pool of work-groups), off (a grid) or auto.")] = "auto"
    micro_kernel: Annotated[str, typer.Option(help=f"{', '.join(switch_words())}.")] = "auto"
    decode: Annotated[bool, typer.Option("--decode", help="The kernel for few tokens.")] = False
    device: Annotated[
        str,
        typer.Option(
            help=f"An Intel GPU as ocloc names it ({', '.join(XMX_SUBGROUPS)}), or cl: this machine's OpenCL device."
        ),
    ] = "acm-g10"
    isa: Annotated[bool, typer.Option("--isa", help="The instructions that ocloc makes of it instead.")] = False
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file instead of standard output.", metavar="FILE")
    ] = None
