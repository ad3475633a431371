"""Runs turns, each in a process of its own, in an order in which a slow drift of the machine cancels out."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ov_moe import children
from ov_moe.bench.job import JOB, Job, Turn
from ov_moe.commands.stop import STOPS, Stop
from ov_moe.errors import OutputError, OvMoeError

Progress = Callable[[str], None]


def abba(variants: Sequence[str], rounds: int) -> list[str]:
    """The variants forwards, then backwards, and so on: A B C C B A for two rounds."""
    order: list[str] = []
    for number in range(rounds):
        order += variants if number % 2 == 0 else reversed(variants)
    return order


@dataclass
class Turns:
    """What the workers found.

    Attributes:
        timed: The timed turns that are complete, in order.
        profiles: The profiling turns that are.
        unproven: Variants whose profiling turn failed, and why.
        stop: Why later turns were not run; None where all were.
    """

    timed: list[Turn] = field(default_factory=list)
    profiles: list[Turn] = field(default_factory=list)
    unproven: dict[str, str] = field(default_factory=dict)
    stop: Stop | None = None


def run_turns(jobs: Sequence[Job], folder: Path, virtual: bool, progress: Progress) -> Turns:
    """Run every job, one after another.

    Once a timed turn is complete no later failure loses it: a timed turn that fails ends the run, a profiling turn
    leaves its variant unproven, and a signal that asks to stop ends the run.

    Args:
        jobs: In the order to run them.
        folder: For the workers' files; the caller removes it.
        virtual: Whether the workers start the virtual GPU.
        progress: Told before each turn what comes.

    Raises:
        OvMoeError: A worker failed before any timed turn was complete.
    """
    found = Turns()
    try:
        for number, job in enumerate(jobs, start=1):
            try:
                what = "profile of " if job.profile else ""
                progress(f"{number} of {len(jobs)}: {what}{job.variant}")
                turn = _run(job, Path(tempfile.mkdtemp(dir=folder)), virtual)
                (found.profiles if job.profile else found.timed).append(turn)
            except Exception as error:
                if not (job.profile and found.timed):
                    raise
                found.unproven[job.variant] = Stop.by(error).reason
    except STOPS as error:
        if not found.timed:
            raise
        found.stop = Stop.by(error)
    return found


def _run(job: Job, folder: Path, virtual: bool) -> Turn:
    try:
        (folder / JOB).write_text(json.dumps(asdict(job)), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} could not be written: {error.strerror}.") from None
    environment = {"OV_MOE_VIRTUAL_GPU": "1"} if virtual else {}
    child = children.call("ov_moe.bench.worker:turn", str(folder), environment=environment)
    if child.status or child.answer is None:
        said = child.said or "it said nothing."
        raise OvMoeError(f"The process of {job.variant!r} {_ending(child.status)}: {said}")
    if "error" in child.answer:
        raise OvMoeError(child.answer["error"])
    return Turn.from_json(child.answer)


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    if status == -signal.SIGKILL:
        return "was killed, most likely because memory ran out"
    return f"was ended by {signal.Signals(-status).name}"
