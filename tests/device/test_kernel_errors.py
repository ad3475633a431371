"""What goes wrong on a device: ids out of range, programs that do not build, no OpenCL, and threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from blocks import Block, random_block, same_bits
from kernel_cases import config

from ov_moe.devices import opencl
from ov_moe.devices.opencl import OpenCLDevice, default_device
from ov_moe.errors import DeviceError
from ov_moe.kernels.compose import program
from ov_moe.kernels.geometry import COMBINE_SIZE, WorkSize
from ov_moe.kernels.stages import COMBINE, ROUTE


def small_block(rng: np.random.Generator) -> Block:
    return random_block(rng, tokens=40, experts=8, top_k=3, hidden=34, intermediate=17, precision="u8")


@pytest.mark.parametrize("schedule", ["grid", "ticket"])
@pytest.mark.parametrize("wrong", [8, 2**31 - 1, -3, -(2**31)])
def test_an_id_out_of_range_makes_its_token_nan_and_no_other(
    wrong: int, schedule: str, rng: np.random.Generator
) -> None:
    block, setting = small_block(rng), config(schedule)
    expected = block.run(default_device(), setting)
    bad = {3: 0, 20: 1, 39: 2}  # token: slot
    for token, slot in bad.items():
        block.ids[token, slot] = wrong
    y = block.run(default_device(), setting)
    others = np.setdiff1d(np.arange(40), list(bad))
    assert np.isnan(y[list(bad)]).all()
    assert same_bits(y[others], expected[others])


def test_a_kernel_that_does_not_build_is_named(rng: np.random.Generator) -> None:
    block = small_block(rng)
    inputs = [np.zeros((120, 34), np.float32), np.zeros((block.spec.plan_layout.size, 1), np.int32), block.weights]
    shapes = [(array.shape, array.dtype.name) for array in inputs]
    text = program(COMBINE, config("grid"), block.spec.attributes(), shapes, ((40, 34), "float32"))
    broken = text.replace("#define HIDDEN 34", "#define HIDDEN no_number")
    assert broken != text
    with pytest.raises(DeviceError, match=r"(?s)ov_moe_combine does not build on .*no_number"):
        default_device().launch(
            broken, COMBINE.entry, WorkSize((1, 1, 1), COMBINE_SIZE), inputs, np.zeros((40, 34), np.float32)
        )


def test_a_launch_that_the_device_refuses_is_named(rng: np.random.Generator) -> None:
    """The work-group is fixed in the kernel; another one is an error of the driver's."""
    block = small_block(rng)
    plan = np.zeros((block.spec.plan_layout.size, 1), np.int32)
    with pytest.raises(DeviceError, match=r"ov_moe_route failed on .*WORK_GROUP_SIZE"):
        default_device().run(ROUTE, config("grid"), block.spec.attributes(), [block.ids], plan, WorkSize((1, 1, 1), 64))


def test_threads_share_a_kernel(rng: np.random.Generator) -> None:
    """Streams of the CPU plugin call ``evaluate`` at once; a kernel object holds one launch's arguments."""
    device, setting = default_device(), config("ticket")
    blocks = [small_block(rng) for _ in range(4)]
    expected = [block.run(device, setting) for block in blocks]
    wrong: list[str] = []

    def work(block: Block, want: np.ndarray) -> None:
        for _ in range(40):
            try:
                if not same_bits(block.run(device, setting), want):
                    wrong.append("another block's result")
            except DeviceError as error:
                wrong.append(str(error))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(blocks, expected, strict=True)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


def without_opencl(folder: Path, code: str) -> str:
    """Output of a process whose OpenCL loader finds no driver."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("OCL_", "OV_MOE_", "LD_"))}
    environment = {**keep, "OCL_ICD_VENDORS": str(folder)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_without_any_platform_the_error_is_one_sentence(tmp_path: Path) -> None:
    code = (
        "from ov_moe.devices.opencl import default_device\n"
        "from ov_moe.errors import DeviceError\n"
        "try:\n    default_device()\nexcept DeviceError as error:\n    print(error)\n"
    )
    said = without_opencl(tmp_path, code)
    assert said.startswith("No OpenCL platform was found (")
    assert said.endswith("): install a driver with an ICD file.\n")
    assert said.count("\n") == 1


class OneDevice:
    """Stands for pyopencl with platforms that show these devices."""

    class Error(Exception):
        pass

    class device_type:  # noqa: N801
        GPU = 4

    def __init__(self, *types: int) -> None:
        self.devices = [type("Device", (), {"type": kind})() for kind in types]

    def get_platforms(self) -> list[OneDevice]:
        return [self]

    def get_devices(self) -> list[object]:
        return self.devices


def test_the_first_gpu_is_taken_else_the_first_device() -> None:
    many, cpu = OneDevice(2, 8, 4, 4), OneDevice(2, 8)
    assert opencl._first_device(many) is many.devices[2]
    assert opencl._first_device(cpu) is cpu.devices[0]
    with pytest.raises(DeviceError, match=r"OpenCL is installed but shows no device: check the driver."):
        opencl._first_device(OneDevice())


def test_without_pyopencl_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyopencl", None)
    with pytest.raises(DeviceError, match="install it with `pip install pyopencl`"):
        OpenCLDevice()
