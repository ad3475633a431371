"""Every test process starts the virtual GPU first: openvino must not be imported before it.

OV_MOE_TESTS_REAL_DEVICE=1 leaves it out: `pytest tests/device/test_mma.py` then runs on the machine's OpenCL device.
"""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest

from ov_moe import virtual_gpu

if "--all-models" in sys.argv:
    # The plugin (2026.4.1) fails on int4 models with 8 experts, unfused ones too, once a kernel that it builds in
    # the background for the router is ready ("Could not find a suitable kernel for _reorder_weights").
    os.environ["OV_MOE_VGPU_HOLD_SECONDS"] = "10"
# What the machine's user prefers must not change what the tests compare.
for option in ("BALANCE", "MAX_TOKENS", "FEW_TOKENS", "FETCH", "GROUPS", "MICRO_KERNEL"):
    os.environ.pop(f"OV_MOE_{option}", None)
# A background job of a shell, and nohup, ignore these, and the processes that tests start would inherit that.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler)
if os.environ.get("OV_MOE_TESTS_REAL_DEVICE") != "1":
    virtual_gpu.start()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Fresh random numbers in every run; the seed is printed when a test fails."""
    seed = int(np.random.SeedSequence().entropy or 0) % 2**32
    request.node.add_report_section("setup", "seed", f"np.random.default_rng({seed})")
    return np.random.default_rng(seed)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-models", action="store_true", help="run every exported model on the virtual GPU")
    parser.addoption("--hostile-cases", type=int, default=200, help="broken IRs that test_hostile.py draws")
    parser.addoption("--hostile-seed", type=int, default=0, help="what they are drawn from")
    parser.addoption("--kills", type=int, default=3, help="how often test_killed.py kills each command")
    parser.addoption("--fuzz-cases", type=int, default=300, help="random kernel cases of tests/device/test_fuzz.py")
    parser.addoption("--fuzz-seed", type=int, help="their seed, as a failure prints it; a fresh one unless given")
    parser.addoption("--pipelines", action="store_true", help="fail where a test of tests/pipelines would skip")
    parser.addoption("--pipeline-rounds", type=int, default=1, help="rounds of pipelines that test_ends makes at least")
    parser.addoption("--pipeline-device", default="GPU", help="device of test_ends")
    parser.addoption("--load", action="store_true", help="1,000 requests in each of four streams, not 25")


@pytest.fixture
def load(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--load"))


@pytest.fixture
def all_models(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--all-models"))
