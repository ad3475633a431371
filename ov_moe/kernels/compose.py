"""Composes OpenCL programs: reads the sources, writes the definitions, hashes what a program depends on."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.attributes import parsed
from ov_moe.kernels.config import KernelConfig, ModelConfig
from ov_moe.kernels.geometry import local_size
from ov_moe.kernels.micro import Fma
from ov_moe.kernels.stages import ROUTE, STAGES, Stage

# What the GPU plugin calls the element types that a custom layer may have.
OPENCL_TYPES = {
    "int8": "char",
    "uint8": "uchar",
    "int32": "int",
    "int64": "long",
    "float16": "half",
    "float32": "float",
}


# Which task a work-group computes next. The last one is for ablation: a pool without a counter.
_SCHEDULES = {
    "grid": ("schedule.cl", "schedule_grid.cl"),
    "ticket": ("schedule.cl", "schedule_locate.cl", "schedule_ticket.cl"),
    "stride": ("schedule.cl", "schedule_locate.cl", "ov_moe.kernel_bench:cl/schedule_stride.cl"),
}


@functools.cache
def read_source(name: str) -> str:
    """The text of a file of ``ov_moe.cl``, or, as ``package:path``, of another package."""
    package, _, path = name.rpartition(":")
    return (resources.files(package or "ov_moe.cl") / path).read_text(encoding="utf-8")


def file_name(name: str) -> str:
    """What a source is called in a folder of sources."""
    return name.rpartition(":")[2].rpartition("/")[2]


def sources(stage: Stage, config: KernelConfig) -> tuple[str, ...]:
    """The sources of a stage's program, in order: of all schedules and micro-kernels only those that it needs."""
    if not stage.multiplies:
        return stage.sources
    stand_in = Fma.sources if config.micro.half_only else ()
    return (*stage.sources, *_SCHEDULES[config.tasks], *config.micro.sources, *stand_in, *stage.rest)


def stage_source(stage: Stage, config: KernelConfig) -> str:
    """The joined sources of a stage, without any definition."""
    return "\n".join(read_source(name) for name in sources(stage, config))


def source_hash(config: KernelConfig | ModelConfig) -> str:
    """16 hex digits that change with any source that its programs are composed of, and any configuration value."""
    digest = hashlib.sha256(repr(config).encode())
    for stage in STAGES:
        digest.update(repr(stage).encode())
        digest.update(stage_source(stage, config.of(stage) if isinstance(config, ModelConfig) else config).encode())
    return digest.hexdigest()[:16]


def defines(stage: Stage, config: KernelConfig) -> list[tuple[str, str]]:
    """The definitions that a stage gets beside its operation's attributes and its buffers."""
    if stage.multiplies:
        own = config.defines()
    else:  # Route counts row tiles, and Combine reads exponents of column tiles
        own = {"TILE_M": str(config.micro.tile_m)} if stage.runs(ROUTE) else {"TILE_N": str(config.micro.tile_n)}
    return [*own.items(), ("LOCAL_SIZE", str(local_size(stage, config))), *stage.defines]


def compiler_options(stage: Stage, config: KernelConfig) -> tuple[str, ...]:
    """Options of the OpenCL compiler for a stage, beside the language's standard."""
    return config.micro.options() if stage.multiplies else ()


def buffer_defines(name: str, shape: Sequence[int], dtype: str) -> list[str]:
    """The definitions that the GPU plugin writes for a dense buffer, e.g. name ``INPUT0``.

    Raises InvalidInputError for a rank above 4 or an element type that a custom layer cannot have.
    """
    if len(shape) > 4 or dtype not in OPENCL_TYPES:
        raise InvalidInputError(
            f"{name} is {dtype} of shape {list(shape)}: a kernel takes rank 4 at most and {', '.join(OPENCL_TYPES)}."
        )
    dims = [*shape, 1, 1, 1, 1][:4]
    pitches = [dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1]
    return [
        f"#define {name}_TYPE {OPENCL_TYPES[dtype]}",
        f"#define {name}_DIMS (size_t []){{ {', '.join(map(str, dims))} }}",
        f"#define {name}_PITCHES (size_t []){{ {', '.join(map(str, pitches))} }}",
        f"#define {name}_OFFSET 0",
    ]


def program(
    stage: Stage,
    config: KernelConfig,
    attributes: Mapping[str, int | str],
    inputs: Sequence[tuple[Sequence[int], str]],
    output: tuple[Sequence[int], str],
) -> str:
    """A complete program for a device reached through OpenCL directly: definitions, then sources.

    Args:
        stage: The stage.
        config: The kernel configuration.
        attributes: The operation's attributes; those that the stage names become definitions.
        inputs: (shape, NumPy dtype name) of each input.
        output: The same of the output.

    Raises:
        InvalidInputError: An attribute is missing or holds what it must not, a buffer is none of a kernel's, or the
            micro-kernel refuses the type of the rows.
    """
    for name in stage.attributes:
        if name not in attributes:
            raise InvalidInputError(f"{stage.op_type} lacks the attribute {name}.")
    own = parsed({name: attributes[name] for name in stage.attributes})
    refusal = config.micro.refuses_rows(inputs[0][1]) if stage.multiplies else None
    if refusal:
        raise InvalidInputError(f"{stage.op_type} in {inputs[0][1]} {refusal}.")
    lines = ["#pragma OPENCL EXTENSION cl_khr_fp16 : enable"]
    lines += [f"#define {name.upper()} {value}" for name, value in own.items()]
    lines += [f"#define {name} {value}" for name, value in defines(stage, config)]
    for index, (shape, dtype) in enumerate(inputs):
        lines += buffer_defines(f"INPUT{index}", shape, dtype)
    lines += buffer_defines("OUTPUT0", *output)
    return "\n".join([*lines, stage_source(stage, config)])
