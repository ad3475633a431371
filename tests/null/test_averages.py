"""Times of a phase from averages over all inferences, as the plugins keep them: whole microseconds, own counts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ov_moe.bench.averages import Mean, Shown, take_apart

# As the worker runs them: a prompt and two further tokens, three times; the first time does not count.
PHASES = ("first", "other", "other") * 3


def shown(times: Sequence[int | None]) -> list[Shown]:
    """What a plugin shows that keeps a sum and a count; None is an inference in which the operation is left out."""
    total = count = 0
    found = []
    for time in times:
        total, count = (total, count) if time is None else (total + time, count + 1)
        average = total // count if count else 0
        found.append(Shown(average, average // 2, executed=times[0] is not None))
    return found


def apart(values: Sequence[Shown]) -> dict[str, Mean]:
    found = take_apart(PHASES, [{"op": value} for value in values], warm_up=3)
    return {phase: means["op"] for phase, means in found.items() if "op" in means}


def test_each_phase_has_its_own_times() -> None:
    found = apart(shown([3_000_000, 97_000, 79_000, 900_000, 85_000, 83_000, 910_000, 87_000, 81_000]))
    assert found["first"].device == pytest.approx(905_000, abs=9)
    assert found["other"].device == pytest.approx(84_000, abs=9)
    assert found["first"].moved
    assert found["other"].moved


@pytest.mark.parametrize("steady", [True, False])
def test_an_operation_that_is_left_out_did_not_run_and_is_not_counted(steady: bool) -> None:
    times = [350, 350, 350] if steady else [150, 340, 360]
    found = apart(shown([times[0], None, None, times[1], None, None, times[2], None, None]))
    # A steady one cannot be told from one that ran once: it is not claimed.
    assert found.keys() == ({"first"} if not steady else set())
    assert steady or found["first"].device == pytest.approx(350, abs=9)


def test_the_status_is_that_of_the_first_inference() -> None:
    found = apart(shown([None, 60, 70, None, 90, 80, None, 95, 75]))
    assert found.keys() == {"other"}
    assert found["other"].device == pytest.approx(85, abs=9)


def test_an_operation_that_only_ran_during_warm_up_ran_in_no_phase() -> None:
    assert apart(shown([500, *[None] * 8])) == {}
    assert apart(shown([None] * 9)) == {}


def test_a_short_operation_counts_although_its_average_stands_still() -> None:
    found = apart(shown([3] * 9))
    assert [(mean.device, mean.moved) for mean in found.values()] == [(3, False)] * 2


def test_what_the_plugin_shows_of_the_last_inference_alone_is_taken_as_it_is() -> None:
    found = apart([Shown(time, 0, True) for time in (900, 4, 6, 800, 3, 5, 700, 4, 4)])
    assert (found["first"].device, found["other"].device) == (750, 4)
