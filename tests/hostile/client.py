"""The test's side of the fork server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 60.0
MEMORY = 12 << 30  # address space: OpenVINO and TBB reserve some GB of it that they never touch


@dataclass(frozen=True)
class Outcome:
    """How a job ended, see job.run; also ``died`` (by a signal, or without a word) and ``late``."""

    how: str
    stage: str = ""
    message: str = ""
    stderr: str = ""
    status: int = 0

    def __str__(self) -> str:
        end = f" with {self.status}" if self.how == "died" else ""
        return f"{self.how}{end} {self.stage} {self.message}\n{self.stderr}".rstrip()


class ForkServer:
    """One server process; it ends with the ``with`` block."""

    def __init__(self, seconds: float = SECONDS) -> None:
        script = Path(__file__).with_name("fork_server.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(seconds), str(MEMORY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # the package that is tested here
        )

    def run(self, **work: Any) -> Outcome:
        """One job in a process of its own."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(work, default=str) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the fork server has ended"
        return Outcome(**json.loads(answer))

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
