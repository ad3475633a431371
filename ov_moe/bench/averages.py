"""Times of some inferences, from the averages over all inferences that the plugins' profiles show.

Both plugins (2026.4.1) keep a sum and a count for each operation of a compiled model and show the sum over the count,
in whole microseconds; nothing sets them back. The count is not the number of inferences: the GPU plugin does not count
an inference in which it leaves an operation out, as a Transpose of one token. Nor does the status tell: it is that of
the first inference. What tells is that an average moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

# Averages of so few microseconds may stand still although the operation runs.
_SHORT = 20


@dataclass(frozen=True)
class Shown:
    """What a profile shows of one operation: whole microseconds, averaged.

    Attributes:
        device: Time on the device.
        host: Time on the host, or in the queue.
        executed: The status.
    """

    device: int
    host: int
    executed: bool


@dataclass(frozen=True)
class Mean:
    """One operation in the inferences of one phase, warm-up left out.

    Attributes:
        device: Microseconds on the device, on average.
        host: Microseconds on the host, or in the queue, on average.
        moved: Whether what the profile shows moved, which only an operation that runs can make it do.
    """

    device: float
    host: float
    moved: bool


def take_apart(
    phases: Sequence[str], profiles: Sequence[Mapping[str, Shown]], warm_up: int
) -> dict[str, dict[str, Mean]]:
    """The operations that ran in each phase, to some microseconds each, for the averages are whole ones.

    Args:
        phases: Of each inference of a compiled model, from its first one on; those of one phase are all of one kind.
        profiles: By the operation's name, after each of them.
        warm_up: Inferences that only count to take the averages apart.

    Returns:
        By phase, then by name.
    """
    found: dict[str, dict[str, Mean]] = {phase: {} for phase in phases}
    for name in profiles[-1]:
        shown = [profile.get(name, Shown(0, 0, False)) for profile in profiles]
        moves = [False, *(one.device != two.device or one.host != two.host for one, two in pairwise(shown))]
        in_phase = {phase: [i for i, each in enumerate(phases) if each == phase] for phase in found}
        moving = {phase for phase, places in in_phase.items() if any(moves[i] for i in places)}
        runs, counts = 0, list[int]()
        for number, (phase, each) in enumerate(zip(phases, shown, strict=True)):
            short = each.executed and max(each.device, each.host) <= max(_SHORT, runs)
            # Only after the first inference the status tells.
            runs += phase in moving or short if number else each.executed
            counts.append(runs)
        ran = [now > then for then, now in pairwise((0, *counts))]
        device, host = (_times(values, counts) for values in zip(*((e.device, e.host) for e in shown), strict=True))
        for phase, places in in_phase.items():
            last = [i for i in places if i >= warm_up]
            if any(ran[i] for i in last):
                means = [max(sum(times[i] for i in last), 0) / len(last) for times in (device, host)]
                found[phase][name] = Mean(means[0], means[1], any(moves[i] for i in last))
    return found


def _times(averages: Sequence[int], counts: Sequence[int]) -> Sequence[int]:
    """Of each inference, from averages over as many runs."""
    sums = [average * count for average, count in zip(averages, counts, strict=True)]
    times = [now - then for then, now in pairwise((0, *sums))]
    # No sum shrinks: of operations that it added itself the GPU plugin shows the last inference alone.
    return averages if any(time < -count for time, count in zip(times, counts, strict=True)) else times
