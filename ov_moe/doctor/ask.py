"""Asks in a process of its own: a broken driver, or a plugin that crashes, must not take the doctor along."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

from ov_moe import children

# A cold build of the probe's kernels on a CPU takes about a minute.
_LIMIT_S = 900


def ask(what: str, *arguments: str, virtual: bool = False) -> dict[str, Any]:
    """The answer of ``ov_moe.doctor.look``; {"error": sentence} where it gave none.

    Args:
        what: Name of a function of ``ov_moe.doctor.look``.
        arguments: Its arguments.
        virtual: Whether the process starts the virtual GPU.
    """
    environment = {}
    if virtual:
        environment["OV_MOE_VIRTUAL_GPU"] = "1"
    elif what == "cpu_runtime":  # which the virtual GPU would take the place of
        environment["OV_MOE_VIRTUAL_GPU"] = "0"
    try:
        child = children.call(f"ov_moe.doctor.look:{what}", *arguments, environment=environment, limit_s=_LIMIT_S)
    except subprocess.TimeoutExpired:
        return {"error": f"The process that looked did not end within {_LIMIT_S} s."}
    if child.answer is not None:
        return child.answer
    if child.status < 0:
        return {"error": f"The process that looked was ended by {signal.Signals(-child.status).name}."}
    return {"error": f"The process that looked failed: {child.said or f'exit status {child.status}'}"}
