"""Everything that is written, killed by SIGKILL at every step that it takes in the file system."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kill_every_step import ALL

HERE = Path(__file__).parent


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder where waiting for the disk takes no time."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


# At least so many steps: fewer would mean that the hook hears nothing.
@pytest.mark.parametrize(
    ("what", "least"),
    [("folder", 40), ("first folder", 20), ("renamed", 40), ("layers", 15), ("outputs", 10), ("library", 8)],
)
def test_killed_at_every_step(what: str, least: int, in_memory: Path) -> None:
    assert {"folder", "first folder", "renamed", "layers", "outputs", "library"} == set(ALL)
    path = os.pathsep.join(map(str, (HERE, HERE.parent, *filter(None, sys.path))))
    done = subprocess.run(
        [sys.executable, HERE / "kill_every_step.py", what, in_memory / "root"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least
