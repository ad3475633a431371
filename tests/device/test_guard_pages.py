"""No kernel reads or writes outside its buffers, by the memory's own protection: see tests/guard_pages.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, check=False, text=True, timeout=600
    )


@pytest.mark.parametrize("kernel", ["fma", "gemv", "dpas", "mma"])
def test_kernels_touch_nothing_outside_their_buffers(kernel: str) -> None:
    """Every storage form; route and combine run along."""
    result = python(str(TESTS / "guard_pages.py"), kernel)
    assert result.returncode == 0, (result.stdout[-200:], result.stderr[-2000:])
    assert result.stdout.splitlines()[-1] == "all within bounds"


@pytest.mark.parametrize(
    ("kernel", "entry", "buffer", "by"),
    [
        ("fma", "ov_moe_gate_up", "INPUT2", 1),
        ("gemv", "ov_moe_down", "INPUT2", 1),
        ("dpas", "ov_moe_gate_up", "OUTPUT0", -1),
        ("mma", "ov_moe_down", "INPUT2", 1),
        ("fma", "ov_moe_route", "INPUT0", 1),
        ("gemv", "ov_moe_combine", "OUTPUT0", -1),
    ],
)
def test_one_element_too_far_is_found(kernel: str, entry: str, buffer: str, by: int) -> None:
    """Else the test above would prove nothing."""
    result = python(str(TESTS / "guard_pages.py"), kernel, entry, buffer, str(by))
    assert result.returncode == -signal.SIGSEGV, (result.returncode, result.stdout[-200:], result.stderr[-2000:])


@pytest.mark.parametrize(("side", "place"), [("end", "a.nbytes"), ("begin", "-1")])
def test_the_forbidden_pages_are_forbidden(side: str, place: str) -> None:
    code = (
        "import ctypes, numpy, guard_pages\n"
        f"a = guard_pages.guarded_copy(numpy.arange(9), {side!r})\n"
        "print(a[0], a[-1], flush=True)\n"
        f"print(ctypes.c_char.from_address(a.ctypes.data + {place}))\n"
    )
    result = python("-c", code)
    assert (result.stdout, result.returncode) == ("0 8\n", -signal.SIGSEGV)
