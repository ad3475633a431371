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
from ov_moe.kernels.stages import STAGES, Stage

# What the GPU plugin calls the element types that a custom layer may have.
OPENCL_TYPES = {
    "int8": "char",
    "uint8": "uchar",
    "int32": "int",
    "int64": "long",
    "float16": "half",
    "float32": "float",
}


@functools.cache
def read_source(name: str) -> str:
    """The text of one file of ``ov_moe.cl``."""
    return (resources.files("ov_moe.cl") / name).read_text(encoding="utf-8")


def stage_source(stage: Stage) -> str:
    """The joined sources of a stage, without any definition."""
    return "\n".join(read_source(name) for name in stage.sources)


def source_hash(config: KernelConfig | ModelConfig) -> str:
    """16 hex digits that change with any kernel source or configuration value."""
    digest = hashlib.sha256(repr(config).encode())
    for stage in STAGES:
        digest.update(repr(stage).encode())
        digest.update(stage_source(stage).encode())
    return digest.hexdigest()[:16]


def defines(stage: Stage, config: KernelConfig) -> list[tuple[str, str]]:
    """The definitions that a stage gets beside its operation's attributes and its buffers."""
    return [*config.defines().items(), ("LOCAL_SIZE", str(local_size(stage, config))), *stage.defines]


def compiler_options(stage: Stage, config: KernelConfig) -> tuple[str, ...]:
    """Options of the OpenCL compiler for a stage, beside the language's standard."""
    return config.compiler_options() if stage.multiplies else ()


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
        InvalidInputError: An attribute is missing or holds what it must not, a buffer is none of a kernel's, or weights
            are packed for buffers that are not f16.
    """
    for name in stage.attributes:
        if name not in attributes:
            raise InvalidInputError(f"{stage.op_type} lacks the attribute {name}.")
    if config.packed and stage.multiplies and inputs[0][1] != "float16":
        # There fma stands in for mma, and it reads weights as they are stored.
        raise InvalidInputError(f"{stage.op_type} in {inputs[0][1]} takes weights as they are stored, not packed ones.")
    own = parsed({name: attributes[name] for name in stage.attributes})
    lines = ["#pragma OPENCL EXTENSION cl_khr_fp16 : enable"]
    lines += [f"#define {name.upper()} {value}" for name, value in own.items()]
    lines += [f"#define {name} {value}" for name, value in defines(stage, config)]
    for index, (shape, dtype) in enumerate(inputs):
        lines += buffer_defines(f"INPUT{index}", shape, dtype)
    lines += buffer_defines("OUTPUT0", *output)
    return "\n".join([*lines, stage_source(stage)])
