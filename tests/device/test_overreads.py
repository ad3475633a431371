"""Nothing is read behind the end of an input: the page behind it may not be touched.

A value read there and then multiplied by zero changes no result, but on a GPU it may be a page fault. Run in a
process of its own, which dies of the first such read.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np


def before_a_forbidden_page(array: np.ndarray) -> np.ndarray:
    """A copy whose last byte is the last of a page; reading the next one kills the process."""
    page = mmap.PAGESIZE
    pages = -(-array.nbytes // page)
    region = mmap.mmap(-1, (pages + 1) * page)
    place = ctypes.addressof(ctypes.c_char.from_buffer(region)) + pages * page
    library = ctypes.CDLL(None, use_errno=True)
    if library.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(page), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = np.frombuffer(region, array.dtype, array.size, offset=pages * page - array.nbytes)
    copy[:] = array.reshape(-1)
    return copy


def test_kernels_read_nothing_behind_their_inputs() -> None:
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, __file__]
    result = subprocess.run(command, env=environment, capture_output=True, check=False, text=True, timeout=300)
    assert result.returncode == 0, (result.stdout[-200:], result.stderr[-2000:])
    assert result.stdout.splitlines()[-1] == "all read within bounds"


def test_the_forbidden_page_is_forbidden() -> None:
    """Else the test above would prove nothing."""
    code = (
        "import ctypes, numpy, test_overreads\n"
        "array = test_overreads.before_a_forbidden_page(numpy.arange(9))\n"
        "print(array[-1], flush=True)\n"
        "print(ctypes.c_char.from_address(array.ctypes.data + array.nbytes))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, check=False, timeout=60
    )
    assert (result.stdout, result.returncode) == (b"8\n", -signal.SIGSEGV)


def main() -> None:
    """Every format of weights; inputs that no kernel writes share the host's memory."""
    from ov_moe import virtual_gpu

    virtual_gpu.start()
    import bounds
    from kernel_cases import ACTIVATIONS, FORMATS, FUSED, SIZES

    from ov_moe.devices.opencl import OpenCLDevice, default_device

    class Guarded(OpenCLDevice):
        def launch(self, text, entry, size, inputs, output):
            moved = [array if array.dtype == np.int32 else before_a_forbidden_page(array) for array in inputs]
            super().launch(text, entry, size, moved, output)

    import blocks

    blocks.GUARD = 0
    device, rng = Guarded(default_device().device), np.random.default_rng()
    assert device.device.host_unified_memory
    for case in [case for case in SIZES + FORMATS + FUSED + ACTIVATIONS if case.T <= 33]:
        print(case, flush=True)
        block = case.block(rng)
        bounds.error(block, block.run(device, case.config())).check()
    print("all read within bounds")


if __name__ == "__main__":
    main()
