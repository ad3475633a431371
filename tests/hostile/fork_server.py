"""Runs each job in a forked process with limits: what only starts Python and OpenVINO would cost a second a job.

``python fork_server.py SECONDS BYTES`` reads one job a line on stdin (JSON, see job.py) and answers each with a line.
No Core and no OpenCL platform exists before a fork: their threads would be missing in the child.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import resource
import select
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from ov_moe import virtual_gpu

virtual_gpu.start()

import job  # noqa: E402


def main(seconds: str, memory: str) -> None:
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line), float(seconds), int(memory))), flush=True)


def _run(work: dict[str, Any], seconds: float, memory: int) -> dict[str, Any]:
    """How a job ended: what it wrote, the signal that ended it, whether its time was over, and its stderr."""
    with tempfile.TemporaryDirectory() as folder:
        told, complaint = Path(folder) / "told", Path(folder) / "stderr"
        child = os.fork()
        if child == 0:
            _child(work, told, complaint, memory)
        late = _late(child, seconds)
        if late:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        answer = json.loads(told.read_text()) if told.exists() and status == 0 else {"how": "died", "status": status}
        if late:
            answer = {"how": "late"}
        return {**answer, "stderr": complaint.read_text(errors="replace")[-4000:] if complaint.exists() else ""}


def _late(child: int, seconds: float) -> bool:
    descriptor = os.pidfd_open(child)
    try:
        return not select.select([descriptor], [], [], seconds)[0]
    finally:
        os.close(descriptor)


def _child(work: dict[str, Any], told: Path, complaint: Path, memory: int) -> None:
    status = 70
    try:
        with complaint.open("wb") as file:
            os.dup2(file.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)
        faulthandler.enable(file=2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        answer = job.run(work)
        gc.collect()  # what crashes when it goes should do so here
        draft = told.with_suffix(".new")
        draft.write_text(json.dumps(answer))
        draft.replace(told)
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
