"""What ``ov-moe kernels show`` prints is a whole program: it builds with the options that it names."""

from __future__ import annotations

import itertools
import shlex

import pytest
from typer.testing import CliRunner

from ov_moe.cli import app
from ov_moe.devices import opencl_list
from ov_moe.devices.timing import select_device
from ov_moe.kernel_show.choice import STAGES
from ov_moe.kernels.stages import STAGES as KERNELS

MICRO_KERNELS = {
    "fma": ("--micro-kernel", "fma"),
    "gemv": ("--decode",),
    "dpas": ("--micro-kernel", "dpas-emulated"),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("micro", "balance"), list(itertools.product(MICRO_KERNELS, ("on", "off"))))
def test_it_builds(micro: str, balance: str, stage: str) -> None:
    words = ("--device", "cl", "--shape", "64/32/8/2", "--tokens", "9", "--stage", stage, "--balance", balance)
    done = CliRunner().invoke(app, ["kernels", "show", *words, *MICRO_KERNELS[micro]])
    assert done.exit_code == 0, done.stderr
    notes = {line[:13].strip(): line[14:] for line in done.stderr.splitlines()}
    assert micro in notes["micro-kernel"]
    cl, device = opencl_list.pyopencl(), select_device()
    assert notes["device"] == device.name
    program = cl.Program(cl.Context([device.device]), done.stdout)
    program.build(shlex.split(notes["options"]), cache_dir=False)
    (kernel,) = program.all_kernels()
    (inputs,) = {each.inputs for each in KERNELS if each.op_type == notes["kernel"].split(" of ")[1].split(",")[0]}
    assert (kernel.function_name, kernel.num_args) == (f"ov_moe_{stage}", inputs + 1)
