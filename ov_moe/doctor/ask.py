"""Asks in a process of its own: a broken driver, or a plugin that crashes, must not take the doctor along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

# A cold build of the probe's kernels on a CPU takes about a minute.
_LIMIT_S = 900
_MARK = "ov-moe-answer:"


def ask(what: str, *arguments: str, virtual: bool = False) -> dict[str, Any]:
    """The answer of ``ov_moe.doctor.look``; {"error": sentence} where it gave none.

    Args:
        what: Name of a function of ``ov_moe.doctor.look``.
        arguments: Its arguments.
        virtual: Whether the process starts the virtual GPU.
    """
    environment = dict(os.environ)
    if virtual:
        environment["OV_MOE_VIRTUAL_GPU"] = "1"
    elif what == "cpu_runtime":  # which the virtual GPU would take the place of
        environment.pop("OV_MOE_VIRTUAL_GPU", None)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ov_moe.doctor.look", what, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"The process that looked did not end within {_LIMIT_S} s."}
    answers = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if answers:
        found: dict[str, Any] = json.loads(answers[-1].removeprefix(_MARK))
        return found
    if done.returncode < 0:
        return {"error": f"The process that looked was ended by {signal.Signals(-done.returncode).name}."}
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return {"error": f"The process that looked failed: {lines[-1]}"}


def answer(found: dict[str, Any]) -> None:
    """Print an answer so that ``ask`` finds it among whatever a driver prints."""
    print(_MARK + json.dumps(found), flush=True)
