"""What a benchmark measures, and the command line that measures one of its rows again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench.schedules import Schedule
from ov_moe.kernel_bench.shapes import Shape


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        shapes: The layers.
        precisions: Of the weights.
        tokens: Numbers of tokens.
        distributions: Names for ``draw_ids``.
        schedules: Side by side in each case.
        stages: ``layer`` and kernels alone.
        baseline: Name of the schedule that ratios refer to; it is one of ``schedules``.
        group: Elements that share a scale, -1 for a channel, None for the default of the precision.
        room: Tokens that the buffers have room for; None: as many as there are.
        activations: NumPy type of x, h, d and y.
        settings: Fields of the kernel configuration to replace, as text.
        repeats: Runs of each variant.
        seconds: Wall-clock limit of the runs of one stage of a case.
        seed: Of everything random.
    """

    shapes: Sequence[Shape]
    precisions: Sequence[str]
    tokens: Sequence[int]
    distributions: Sequence[str]
    schedules: Sequence[Schedule]
    stages: Sequence[str]
    baseline: str
    group: int | None = None
    room: int | None = None
    activations: str = "float16"
    settings: Mapping[str, str] = field(default_factory=dict)
    repeats: int = 20
    seconds: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.baseline not in [schedule.name for schedule in self.schedules]:
            names = ", ".join(schedule.name for schedule in self.schedules)
            raise InvalidInputError(f"the baseline {self.baseline!r} is not among the schedules {names}: add it.")
        if min(self.tokens) < 1 or (self.room is not None and self.room < max(self.tokens)):
            most = "" if self.room is None else f" and at most the room, {self.room}"
            raise InvalidInputError(f"tokens {', '.join(map(str, self.tokens))} must each be at least 1{most}.")

    @property
    def rows(self) -> int:
        """How many there will be."""
        cases = len(self.shapes) * len(self.precisions) * len(self.distributions) * len(self.tokens)
        return cases * len(self.stages) * len(self.schedules)

    def command(self, shape: Shape, precision: str, tokens: int, distribution: str, stage: str, schedule: str) -> str:
        """A command line that measures one row again, next to its baseline."""
        schedules = schedule if schedule == self.baseline else f"{self.baseline},{schedule}"
        words = ["--shape", shape.name, "--precision", precision, "--tokens", str(tokens)]
        words += ["--distribution", distribution, "--stage", stage, "--schedule", schedules]
        words += ["--baseline", self.baseline, "--repeats", str(self.repeats), "--seed", str(self.seed)]
        words += [] if self.group is None else ["--group", str(self.group)]
        words += [] if self.room is None else ["--room", str(self.room)]
        words += [] if self.activations == "float16" else ["--activations", self.activations]
        for name, value in self.settings.items():
            words += ["--set", f"{name}={value}"]
        return shlex.join(["ov-moe", "kernels", "bench", *words])


def words(text: str) -> list[str]:
    """The words of a list with commas; InvalidInputError where there is none."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found:
        raise InvalidInputError("a list on the command line is empty: give at least one name, or several with commas.")
    return found


def whole_numbers(text: str) -> list[int]:
    """The numbers of a list with commas; InvalidInputError for any other word."""
    for word in words(text):
        if not word.isdigit():
            raise InvalidInputError(f"tokens {word!r} is no whole number.")
    return [int(word) for word in words(text)]


def read_settings(texts: Sequence[str]) -> dict[str, str]:
    """Fields of the kernel configuration from NAME=VALUE words; InvalidInputError where one is not of that form."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InvalidInputError(f"--set {text}: write it as name=value.")
        pairs[name] = value
    return pairs
