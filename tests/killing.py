"""Kills code with SIGKILL: at every step that it takes in the file system, or at moments spread over its run."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

# What Python tells before it does it. The exchange of two folders goes around Python: the step behind it counts.
_EVENTS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir", "os.chmod"})


def _arm(root: Path, step: int) -> None:
    """From now on this process is killed right before its ``step``-th access to something below ``root``."""
    seen = 0

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event not in _EVENTS or not arguments or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if not path.startswith(str(root)):
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes and ".ov-moe/" not in path:
            # Between opening and the last byte no step can be hit: only a draft may be half-written.
            os.write(2, f"{path} is written in its place\n".encode())
            os._exit(1)
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hear)


def run_in_a_fork(act: Callable[[], object], root: Path, step: int = 0) -> bool:
    """Run it in a child process; whether it was killed at that step (0: at none)."""
    child = os.fork()
    if not child:
        try:
            _arm(root, step)
            act()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0, f"it failed after a kill: {status}"
    return os.WIFSIGNALED(status)


def at_every_step(
    root: Path, prepare: Callable[[], object], act: Callable[[], object], check: Callable[[bool], object]
) -> int:
    """Kill ``act`` at each step below ``root``, on what ``prepare`` leaves there; how many there were.

    ``check`` hears whether ``act`` must be complete: after the kill, and after another run that is left alone. For a
    process without threads.
    """
    for step in itertools.count(1):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        prepare()
        killed = run_in_a_fork(act, root, step)
        check(not killed)
        if not killed:
            return step - 1
        run_in_a_fork(act, root)
        check(True)
    raise AssertionError


def at_moments(command: Sequence[str | Path], moments: Sequence[float], **options: object) -> Iterator[bool]:
    """Start a command again and again, each killed after so many seconds; yields whether it was still at work.

    What it started is not killed along: it has to notice by itself.
    """
    for moment in moments:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options) as child:
            try:
                child.wait(moment)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
        yield child.returncode == -signal.SIGKILL


def spread(kills: int, longest_s: float, rng: np.random.Generator) -> list[float]:
    """One random moment in each of so many equal parts of a run, in seconds."""
    return [longest_s * (number + rng.uniform()) / kills for number in range(kills)]


def processes_with(word: str) -> list[str]:
    """Command lines, of other processes than this one, that hold a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if word in line and path.parent.name != str(os.getpid()):
                found.append(line)
    return found


def leftovers(*folders: Path) -> list[Path]:
    """Drafts that lie in these folders."""
    return [path for folder in folders for path in folder.rglob(".*.ov-moe")]


def wait_for(condition: Callable[[], bool], limit_s: float = 20) -> bool:
    """Whether it comes true within the limit."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
