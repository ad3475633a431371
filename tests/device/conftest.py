"""What the tests of the virtual GPU share."""

from __future__ import annotations

from pathlib import Path

import pytest
from virtual_gpu_child import START, run


@pytest.fixture(scope="module")
def virtual_gpu_runtime() -> None:
    """Skip where Intel's runtime for CPUs is not to be had."""
    done = run(START, "")
    if "is not installed" in done.stderr or "Linux x86-64 only" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of built programs for the tests of a file."""
    return tmp_path_factory.mktemp("programs")
