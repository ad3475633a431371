"""The command ``ov-moe kernels show``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import typer

from ov_moe.arguments import check_word
from ov_moe.commands.guard import one_sentence
from ov_moe.commands.options_record import command_from
from ov_moe.commands.output_files import check_writable, write_whole
from ov_moe.devices import ocloc
from ov_moe.devices.intel_gpus import intel_gpu
from ov_moe.devices.timing import select_device
from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench.shapes import block_spec, find_shape
from ov_moe.kernel_show.choice import STAGES, Choice, choose
from ov_moe.kernel_show.options import OPENCL, ShowOptions
from ov_moe.kernels.block_program import ACTIVATIONS, Rows
from ov_moe.kernels.config import STANDARD
from ov_moe.options import Config
from ov_moe.spec import Balance, DeviceInfo, Switches


@dataclass(frozen=True)
class _Device:
    """Where a program is to run: what the choice knows of it, its name, and the option that names the language."""

    info: DeviceInfo
    name: str
    standard: str = STANDARD


def run(options: ShowOptions) -> None:
    """Print the program that a stage is built from, whole; what was chosen and why goes to standard error.

    The choice is the product's for that device, and none has to be there. The text builds as it stands.
    """
    with one_sentence():
        check_writable((options.output,))
        device = _device(options)
        chosen = _choose(options, device.info)
        text = chosen.text()
        notes = [("device", device.name), *chosen.reasons(), ("options", " ".join(chosen.options(device.standard)))]
        if options.isa:
            build, text = ocloc.disassemble(text, chosen.stage.entry, options.device, chosen.options())
            notes += list(_of_build(build))
        for name, words in [*notes, ("lines", f"{len(text.splitlines())}")]:
            typer.echo(f"{name:13} {words}", err=True)
        if options.output is None:
            typer.echo(text, nl=not text.endswith("\n"))
        else:
            write_whole(options.output, text)


def _device(options: ShowOptions) -> _Device:
    if options.device != OPENCL:
        info = intel_gpu(options.device, OPENCL)
        units = f"XMX with sub-groups of {info.xmx_subgroup}" if info.xmx_subgroup else "no XMX"
        return _Device(info, f"{options.device}, {units}")
    if options.isa:
        raise InvalidInputError(
            f"--isa shows what ocloc builds, and for --device {OPENCL} the driver does: let --device name an Intel GPU."
        )
    found = select_device()
    return _Device(found.info, found.name, f"-cl-std={found.standard}")


def _choose(options: ShowOptions, device: DeviceInfo) -> Choice:
    check_word("stage", options.stage, STAGES)
    check_word("activations", options.activations, tuple(ACTIVATIONS))
    usual = Config().few_tokens if options.decode else Config().max_tokens
    block = block_spec(find_shape(options.shape), options.precision, options.tokens or usual, options.group)
    switches = Switches(cast(Balance, options.balance), micro_kernel=options.micro_kernel)
    return choose(options.stage, block, cast(Rows, options.activations), device, switches, options.decode)


def _of_build(build: ocloc.Build) -> Iterator[tuple[str, str]]:
    yield (
        "build",
        f"SIMD {build.simd}, {build.registers} registers, {build.local_bytes} bytes of local memory, "
        f"{build.spilled} spills, {build.memory_bytes} bytes of memory a thread, {build.dpas} dpas of "
        f"{build.instructions} instructions",
    )


command = command_from(ShowOptions, run)
