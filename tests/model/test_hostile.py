"""Hostile and broken IRs: one sentence, or the right result; never a signal, a traceback, a wrong number or no end.

Hypothesis draws the changes and shrinks what fails; every case runs in a process of its own with limits of time and
memory. ``make fuzz-ir`` draws 2,000 cases from a new seed, which it prints.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile.cases import Base, E, H, Judge, K, bases, inputs_of
from hostile.client import ForkServer
from hostile.mutate import MUTATIONS, Mutation, load
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

SHARES = st.floats(0, 1, exclude_max=True)
# Thrice what a model can survive: much of the rest is refused where OpenVINO reads the file.
DEEP = ("all attributes", "all names", "constant bytes", "exchanged attribute", "ids", "name", "no number", "x")
CHANGE = st.builds(
    Mutation,
    kind=st.sampled_from([*sorted(MUTATIONS), *DEEP, *DEEP]),
    place=SHARES,
    value=st.integers(0, 2**16),
    part=SHARES,
    free=st.none() | st.none() | st.none() | st.text(max_size=30),
)
ONE = CHANGE.map(lambda change: [change])
CHANGES = ONE | ONE | ONE | st.lists(CHANGE, min_size=2, max_size=3)


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as started:
        yield started


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    return bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def judge(server: ForkServer, tmp_path: Path) -> Judge:
    return Judge(server, tmp_path)


def test_hostile_irs(request: pytest.FixtureRequest, judge: Judge, made: dict[str, Base]) -> None:
    cases, chosen = (request.config.getoption(name) for name in ("--hostile-cases", "--hostile-seed"))
    outcomes, kinds = Counter[str](), Counter[str]()
    began = time.monotonic()

    @seed(chosen)
    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        base = made[data.draw(st.sampled_from(list(made)), "model")]
        changes = data.draw(CHANGES, "changes")
        # Most on the CPU device in NumPy: the others build programs.
        runs = data.draw(st.sampled_from(["numpy"] * 13 + ["survey"] * 2 + ["opencl"] * 4 + ["GPU"]), "runs")
        device, evaluate = ("GPU", "opencl") if runs == "GPU" else ("CPU", "opencl" if runs == "opencl" else "numpy")
        verdict = judge.judge(base, changes, device, evaluate, runs == "survey")
        outcomes[verdict.outcome] += 1
        kinds.update({change.kind for change in changes})
        if outcomes.total() % 100 == 0:
            print(f"{time.monotonic() - began:.0f} s", dict(outcomes), flush=True)
        if verdict.fault:
            print(base.name, changes, runs, verdict, sep="\n", flush=True)
        assert not verdict.fault, verdict.fault

    print(f"{cases} cases of --hostile-seed {chosen}")
    check()
    print(f"{time.monotonic() - began:.0f} s")
    for counts in (outcomes, kinds):
        print(*(f"{count:6} {name}" for name, count in counts.most_common()), sep="\n")
    # The changes reach every stage, and some do nothing.
    assert outcomes.total() >= cases
    if cases >= 200:
        assert min(outcomes["sentence at read"], outcomes["results, right"], outcomes["results, as before"]) > 0
        assert len(kinds) > 0.8 * len(MUTATIONS)


@pytest.mark.parametrize("way", ["optimize", "compile"])
def test_unchanged_models_run(judge: Judge, made: dict[str, Base], way: str) -> None:
    unchanged = Mutation("name", 0.0, 0, 0.0, "x")
    for base in made.values():
        if base.way == way:
            verdict = judge.judge(base, [unchanged], "CPU", "numpy")
            assert verdict.outcome == ("results, right" if way == "optimize" else "results, as before"), verdict
            assert not verdict.fault


@pytest.mark.parametrize(
    ("planted", "how", "says"),
    [
        ("signal", "died", "Segmentation fault"),
        ("memory", "wrong", "MemoryError"),
        ("time", "late", ""),
        ("exception", "wrong", "KeyError"),
    ],
)
def test_the_server_sees_what_is_planted(planted: str, how: str, says: str) -> None:
    with ForkServer(seconds=3) as server:
        found = server.run(way="planted", planted=planted, evaluate="numpy")
        assert found.how == how
        assert says in str(found)
        if planted == "signal":
            assert found.status == -signal.SIGSEGV
        assert server.run(way="planted", planted="nothing", evaluate="numpy").how == "results"


@pytest.mark.parametrize("changed", ["a result", "NaN in its place", "NaN"])
def test_the_judge_sees_a_wrong_result(
    judge: Judge, made: dict[str, Base], monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    loaded = Judge._load

    def other(self: Judge, way: str) -> dict[str, np.ndarray]:
        results = loaded(self, way)
        y = results["1"].reshape(-1)
        if way == "optimize":
            y[7] = np.nan if changed == "NaN" else y[7] if changed == "NaN in its place" else y[7] + 1e-2
        elif changed == "NaN in its place":
            y[7] = np.nan
        return results

    monkeypatch.setattr(Judge, "_load", other)
    verdict = judge.judge(made["unrolled f16, optimize"], [Mutation("x", 0.0, 5, 0.0)], "CPU", "numpy")
    assert verdict.outcome == "results, right"
    assert verdict.fault


@pytest.mark.parametrize("evaluate", ["numpy", "opencl"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_number_in_one_expert_reaches_its_tokens_and_no_other(
    judge: Judge, made: dict[str, Base], value: float, evaluate: str
) -> None:
    """Whatever the unfused form makes of it: tiled, 0 * NaN reaches every token."""
    base = made["fused int8, ids given, compile"]
    ir = load(base.path)
    scales = [data for data in ir.constants() if data.get("element_type") == "f16"]
    down = scales[-1]
    assert down.get("shape", "").replace(" ", "") == f"{E},{H},1"
    at = int(down.get("offset", "0")) + 2 * H  # the first column of expert 1
    assert ir.weights is not None
    ir.weights[at : at + 2] = np.float16(value).tobytes()
    inputs = inputs_of(base, ir)
    np.savez(judge.folder / "inputs.npz", **inputs)
    found = judge._run(ir.save(judge.folder), "compile", "CPU", evaluate)
    assert found.how == "results", found
    for run, y in judge._load("compile").items():
        ids = inputs[f"{run}/1"]
        assert ids.shape[1] == K
        np.testing.assert_array_equal(~np.isfinite(y[:, 0]), (ids == 1).any(axis=1))
        assert np.isfinite(y[:, 1:]).all()


def test_no_file_is_left_behind(judge: Judge, made: dict[str, Base], tmp_path: Path) -> None:
    judge.judge(made["tiled int4, router, optimize"], [Mutation("no weights", 0.0, 0, 0.0)], "CPU", "numpy", True)
    assert set(os.listdir(tmp_path)) <= {"model.xml", "inputs.npz"}
