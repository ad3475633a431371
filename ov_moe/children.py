"""Functions that run in a process of their own: it may crash, be watched and be killed.

A child is given a function's name and its arguments, all of them texts, and answers with one JSON object on standard
output. What it or a driver prints there otherwise goes to standard error. A child ends with the process that started
it, however that ends.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ov_moe.errors import OvMoeError

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.1
# The parent's module path, so that the child imports the same packages whatever the current folder holds.
_CHILD = (
    "import os, sys; answer = os.dup(1); os.dup2(2, 1); path, between, *arguments = sys.argv[1:]; "
    "sys.path[:] = path.split(between); from ov_moe.children import serve; serve(answer, *arguments)"
)


@dataclass(frozen=True)
class Ending:
    """How a child ended.

    Attributes:
        status: Its exit status; a negative number is that of the signal that ended it.
        answer: What the function returned, ``{"error": sentence}`` where it raised an OvMoeError; None where the child
            did not come so far.
        said: The last line on standard error, empty where there is none.
    """

    status: int
    answer: dict[str, Any] | None
    said: str


def call(
    function: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    watch: Callable[[], object] | None = None,
    limit_s: float | None = None,
    lock: int | None = None,
) -> Ending:
    """Run a function in a child and wait for it; any exception, KeyboardInterrupt included, ends the child.

    Args:
        function: ``module:name`` of a function that takes texts and returns what JSON knows, in a dict.
        arguments: Of the function.
        environment: Variables that the child has beside those of this process.
        watch: Called ten times a second while the child is at work.
        limit_s: Seconds that it may take.
        lock: A descriptor that the child keeps open: what it writes is not left behind while it lives.

    Raises:
        subprocess.TimeoutExpired: It took longer than ``limit_s``.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    # A session of its own: Ctrl-C reaches the parent alone, which ends the child.
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, path, os.pathsep, str(os.getpid()), function, *arguments],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        pass_fds=() if lock is None or os.name != "posix" else (lock,),
    ) as child:
        try:
            output, errors = child.communicate(timeout=limit_s) if watch is None else _watched(child, watch)
        except BaseException:
            child.kill()
            child.wait()  # or it would go on writing: on KeyboardInterrupt, Popen waits for 0.25 s only
            raise
    return Ending(child.returncode, _parse(output), (errors.strip().splitlines() or [""])[-1])


def _watched(child: subprocess.Popen[str], watch: Callable[[], object]) -> tuple[str, str]:
    while True:
        try:
            return child.communicate(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            watch()


def _parse(output: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(output)
    except ValueError:  # it ended before, or while it wrote
        return None
    return found


def serve(answer: int, parent: str, function: str, *arguments: str) -> None:
    """The child: call the function, write the answer to the descriptor ``answer``."""
    end_with(int(parent))
    module, _, name = function.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)(*arguments)
    except OvMoeError as error:
        found = {"error": str(error)}
    with open(answer, "w", encoding="utf-8") as out:
        json.dump(found, out)


def end_with(parent: int) -> None:
    """On Linux: this process is killed when the one that started it is gone. Elsewhere nothing happens.

    Args:
        parent: The process id of the parent, which may be gone already.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)
