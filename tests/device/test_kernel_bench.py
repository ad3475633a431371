"""The benchmark end to end on the OpenCL device at hand: checked first, never timed where the check fails."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ov_moe.devices.timing import TimingDevice, check_capability, select_device
from ov_moe.errors import DeviceError
from ov_moe.kernel_bench import app, oracle, schedules
from ov_moe.kernel_bench.case import Case, DeviceBlock, Run, random_inputs
from ov_moe.kernel_bench.check import check
from ov_moe.kernel_bench.cost import stage_cost
from ov_moe.kernel_bench.distributions import draw_ids
from ov_moe.kernel_bench.limits import measure_limits
from ov_moe.kernel_bench.schedules import SCHEDULES, configure
from ov_moe.kernel_bench.shapes import SHAPES, Shape, block_spec
from ov_moe.kernel_bench.weights import random_block

ALL = ",".join(SCHEDULES)
SMALL = ["--shape", "64/32/8/2", "--tokens", "40", "--distribution", "hot", "--flush-mib", "1", "--repeats", "2"]


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*SMALL, *arguments])


def rows(path: Path) -> dict[str, dict[str, Any]]:
    """Rows by schedule."""
    return {row["schedule"]: row for row in json.loads(path.read_text())["rows"]}


@pytest.fixture(scope="module")
def device() -> TimingDevice:
    return select_device()


def test_every_schedule_passes_the_check_and_is_compared(tmp_path: Path) -> None:
    file, table = tmp_path / "a.json", tmp_path / "a.csv"
    done = bench("--schedule", ALL, "--json", str(file), "--csv", str(table), "--plot", str(tmp_path / "a.svg"))
    assert done.exit_code == 0, done.output
    assert "This device is no GPU" in done.output
    found = rows(file)
    assert list(found) == list(SCHEDULES)
    for row in found.values():
        assert row["ok"]
        assert row["runs"] == 2
        assert 0 < row["error"] <= row["tolerance"]
        assert row["ratio"] > 0
        assert row["ms"] is row["tflops"] is row["fraction"] is None  # a CPU's times are nobody's business
    assert found["grid"]["ratio"] == 1
    assert found["pool-ticket"]["rows"] == 80
    assert found["grid"]["groups"] > found["grid-largest"]["groups"] - 1 >= found["loop"]["live"] - 1
    assert len(table.read_text().splitlines()) == 1 + len(SCHEDULES)
    assert json.loads(file.read_text())["complete"] is True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_keeps_what_it_has_measured(number: signal.Signals, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file, table, picture = tmp_path / "a.json", tmp_path / "a.csv", tmp_path / "a.svg"
    words = ["--shape", "64/32/8/2", "--tokens", ",".join(map(str, range(1, 200))), "--distribution", "hot"]
    words += ["--flush-mib", "1", "--schedule", "grid,pool-ticket", "--device", "cpu"]
    words += ["--json", str(file), "--csv", str(table), "--plot", str(picture)]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "ov_moe.kernel_bench", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        while "T=2: " not in (line := command.stdout.readline()):
            assert line, "it ended before"
        assert json.loads(file.read_text())["complete"] is False
        command.send_signal(number)
        output, errors = command.communicate(timeout=120)
    assert command.returncode == 128 + number, errors
    kept = json.loads(file.read_text())
    count = len(kept["rows"])
    assert 4 <= count < 398
    assert kept["complete"] is False
    assert errors == f"ov-moe: Interrupted. Shown and written is what was complete: {count} of 398 rows.\n"
    assert f"INCOMPLETE, {count} of 398 rows: Interrupted." in output
    assert "u4 g32 asym  layer" in output  # the table
    assert {row["complete"] for row in csv.DictReader(table.read_text().splitlines())} == {"False"}
    assert "<svg" in picture.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "a.csv", "a.svg"}


def test_each_stage_alone(tmp_path: Path) -> None:
    done = bench("--stage", "layer,route,gate_up,down,combine", "--schedule", "grid,loop,pool-ticket", "--room", "50")
    assert done.exit_code == 0, done.output
    for stage in ("layer", "route", "gate_up", "down", "combine"):
        assert f"u4 g32 asym  {stage}  (H 64, I 32, 8 experts, top 2)" in done.output


@pytest.mark.parametrize(
    ("shape", "precision", "activations"),
    [
        ("gpt", "f4e2m1", "float16"),
        ("gpt", "f16", "float32"),
        ("halves", "i8", "float16"),
        ("apart", "u8", "float32"),
        ("apart", "i4", "float16"),
        ("apart", "f32", "float32"),
    ],
)
def test_layouts_and_precisions_match_the_oracle(
    shape: str, precision: str, activations: str, device: TimingDevice, rng: np.random.Generator
) -> None:
    layouts = {
        "gpt": Shape("gpt", 96, 64, 8, 3, "interleaved", SHAPES["gpt-oss-20b"].activation, bias=True),
        "halves": Shape("halves", 96, 64, 8, 3, "halves"),
        "apart": Shape("apart", 96, 64, 8, 3),
    }
    result = checked(device, rng, layouts[shape], precision, activations, "pool-ticket")
    assert result.why == ""
    assert result.error > 0


def checked(
    device: TimingDevice,
    rng: np.random.Generator,
    shape: Shape,
    precision: str,
    activations: str,
    schedule: str,
    settings: dict[str, str] | None = None,
) -> Any:
    """The check of one schedule on 30 tokens in buffers for 40."""
    spec = block_spec(shape, precision, 40)
    block = random_block(rng, spec)
    ids = draw_ids("power1.2", 30, shape.experts, shape.top_k, 0)
    inputs = random_inputs(rng, ids, 40, rng.standard_normal((30, shape.hidden)).astype(activations))
    sample = oracle.sample(rng, inputs.x, ids, inputs.weights)
    case = Case(device, DeviceBlock(device, block), spec, inputs)
    half = activations == "float16"
    config = configure(SCHEDULES[schedule], spec, 30, "f16" if half else "f32", device.info, settings or {})
    return check(Run(case, SCHEDULES[schedule], config), sample.tokens, oracle.expected(block, [sample])[0])


def broken(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Change the source of the schedule ``loop``."""
    read: Callable[[str], str] = schedules.bench_source
    assert old in read("schedule_loop.cl")
    monkeypatch.setattr(schedules, "bench_source", lambda name: read(name).replace(old, new))


PLACE = "place_in_expert(task, plan, task->position);"
WRONG = [
    pytest.param("= get_global_offset(2);", "= get_global_offset(2) / 2 * 2;", "were not written", id="expert"),
    pytest.param(
        "task->column_tile = get_group_id(0);", "task->column_tile = get_group_id(0) + 1;", "not written", id="block"
    ),
    pytest.param(PLACE, f"{PLACE} task->rows -= 1;", "not", id="a row"),
    pytest.param("inline bool next", "@ inline bool next", "does not build", id="no program"),
]


@pytest.mark.parametrize(("old", "new", "why"), WRONG)
def test_a_wrong_kernel_is_not_timed(
    old: str, new: str, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The others still are; the command ends with the reason and exit status 1."""
    broken(monkeypatch, old, new)
    done = bench("--schedule", "grid,loop", "--json", str(tmp_path / "a.json"))
    assert done.exit_code == 1
    assert "ov-moe: loop failed: " in done.output
    found = rows(tmp_path / "a.json")
    assert not found["loop"]["ok"]
    assert why in found["loop"]["why"]
    assert (found["loop"]["runs"], found["loop"]["ratio"], found["loop"]["spread"]) == (0, None, None)
    assert (found["grid"]["ok"], found["grid"]["runs"]) == (True, 2)


def test_wrong_numbers_are_found_by_the_oracle(
    device: TimingDevice, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is written and finite, but each expert computes the rows of its neighbour."""
    rows = "task->rows = min(TILE_M, plan[PLAN_ROW_OFFSET + task->expert + 1] - task->row);"
    broken(monkeypatch, PLACE, f"task->row = task->position * TILE_M; {rows}")
    result = checked(device, rng, Shape("s", 96, 64, 8, 3), "u4", "float16", "loop")
    assert "differs from the float64 oracle" in result.why


def test_rows_written_behind_the_last_are_found(
    device: TimingDevice, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, PLACE, f"{PLACE} const bool some = task->rows > 0; task->rows = TILE_M;")
    broken(monkeypatch, "if (task->rows > 0)", "if (some)")
    result = checked(device, rng, Shape("s", 96, 64, 8, 3), "u4", "float16", "loop")
    assert "behind its last row were written" in result.why


def test_absolute_figures_follow_from_the_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a GPU; only the arithmetic between the columns is looked at."""
    monkeypatch.setattr(TimingDevice, "is_gpu", True)
    monkeypatch.setattr("ov_moe.kernel_bench.cli.measure_limits", lambda device: measure_limits(device, 2**22, 16, 2))
    done = bench("--schedule", "grid,pool-ticket", "--json", str(tmp_path / "a.json"))
    assert done.exit_code == 0, done.output
    assert "limits measured here" in done.output
    limits = json.loads((tmp_path / "a.json").read_text())["limits"]
    block = random_block(np.random.default_rng(0), block_spec(Shape("64/32/8/2", 64, 32, 8, 2), "u4", 1))
    counts = np.bincount(draw_ids("hot", 40, 8, 2, 0).reshape(-1), minlength=8)
    cost = stage_cost("layer", block, counts, 40, 2)
    for row in rows(tmp_path / "a.json").values():
        seconds = row["ms"] * 1e-3
        assert row["ms_low"] <= row["ms"] <= row["ms_high"]
        assert row["tflops"] == pytest.approx(cost.flops / seconds * 1e-12)
        assert row["gbs"] == pytest.approx(cost.bytes / seconds * 1e-9)
        least = max(cost.flops / limits["flops"], cost.bytes / limits["bandwidth"])
        assert row["fraction"] == pytest.approx(least / seconds)


def test_limits_are_measured(device: TimingDevice) -> None:
    limits = measure_limits(device, 2**24, 64, 2)
    assert limits.flops > 1e8
    assert limits.bandwidth > 1e8
    assert limits.arithmetic == "fma"


def test_cpu_is_intels_runtime_whoever_made_the_processor() -> None:
    code = "from ov_moe.devices.timing import select_device; print(select_device('cpu').device.platform.name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Intel")


WITHOUT_PIPS = "from ov_moe.devices import intel_cpu_runtime as r; r._RUNTIME_DISTRIBUTION = 'nothing'; "


@pytest.mark.parametrize("installed", [True, False])
def test_without_a_device_auto_takes_the_runtime_of_pip_or_names_it(installed: bool) -> None:
    code = "from ov_moe.devices.timing import select_device; print(select_device().device.platform.name)"
    environment = {**os.environ, "OCL_ICD_VENDORS": "/nowhere"}
    command = [sys.executable, "-c", code if installed else WITHOUT_PIPS + code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == (not installed)
    if installed:
        assert done.stdout.startswith("Intel")
    else:
        assert "DeviceError: No OpenCL platform was found" in done.stderr
        assert done.stderr.endswith(", or pip's intel-opencl-rt for the CPU.\n")


@pytest.mark.parametrize(("capability", "served"), [((9, 0), True), ((8, 0), True), ((7, 5), False)])
def test_nvidia_cards_that_are_too_old_are_refused(capability: tuple[int, int], served: bool) -> None:
    with contextlib.nullcontext() if served else pytest.raises(DeviceError, match=r"T4 has compute capability 7\.5"):
        check_capability("T4", *capability)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match="No OpenCL device's name contains 'no such card'; there are: '"):
        select_device("no such card")
    done = bench("--device", "no such card")
    assert done.exit_code == 1
    assert done.output.startswith("ov-moe: No OpenCL device's name")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--stage", "up"], "stage 'up' is unknown: use layer"),
        (["--activations", "bfloat16"], "activations 'bfloat16' are not served"),
        (["--tokens", "-1"], "tokens '-1' is no whole number"),
        (["--schedule", "pool-ticket"], "the baseline 'grid' is not among the schedules pool-ticket"),
    ],
)
def test_a_wrong_option_is_one_sentence(arguments: list[str], sentence: str) -> None:
    done = bench(*arguments)
    assert done.exit_code == 1
    assert done.output.startswith(f"ov-moe: {sentence}")
