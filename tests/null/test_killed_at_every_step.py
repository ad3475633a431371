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
from killing import wait_for

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


ORPHAN = """
import os, subprocess, sys
code = "import sys, time; from ov_moe.children import end_with; end_with(int(sys.argv[1]))"
code += "; print('here', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code, str(os.getpid())], stdout=subprocess.PIPE, text=True)
print(child.stdout.readline().strip(), child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process that its parent is gone")
def test_a_child_ends_with_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        word, number = parent.stdout.readline().split()
        assert word == "here"
        parent.kill()

    def gone() -> bool:
        try:
            return " Z " in Path(f"/proc/{number}/stat").read_text()  # nobody may be there to collect it
        except OSError:
            return True

    assert wait_for(gone)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process that its parent is gone")
@pytest.mark.parametrize(
    "what",
    [
        ("ov_moe.bench.worker:turn", "/nowhere"),
        ("ov_moe.folder.save:rewrite", "/nowhere", "/nowhere", "auto", "16", "16"),
    ],
)
def test_a_child_whose_parent_is_gone_already_does_nothing(what: tuple[str, ...]) -> None:
    code = f"from ov_moe.children import serve; serve(1, '1', *{what})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
