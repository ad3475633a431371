"""``ov-moe bench`` and its script on the demonstration's model, run as a user runs them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ov_moe.bench.job import Job
from ov_moe.commands.prompts import Prompt
from ov_moe.demo import MODEL

ROOT = Path(__file__).parents[2]
INHERITED = ("OV_MOE_VIRTUAL_GPU",)
# So few that a prompt of 20 tokens takes the path of long ones, in programs that test_demo.py builds as well.
FEW_TOKENS = "8"
EXACT = ("INFERENCE_PRECISION_HINT=f32", "KV_CACHE_PRECISION=f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE=0")


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in INHERITED}
    words = [*map(str, arguments), *(word for each in EXACT for word in ("--property", each))]
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "latency.py"), *words],
        env={**environment, "OV_MOE_FEW_TOKENS": FEW_TOKENS, "OV_MOE_EVALUATE": "numpy"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_off_and_on_on_a_gpu(tmp_path: Path) -> None:
    """Two processes that time and two that profile."""
    file = tmp_path / "out.json"
    size = ("--prompt-tokens", 20, "-ic", 3, "-n", 2, "--rounds", 1)
    done = bench(MODEL, "--variants", "off,on", *size, "--profile", "--json", file)
    assert done.returncode == 0, done.stderr
    assert (
        "The same output from every variant in every iteration (md5); logits deviate by at most 0.0e+00" in done.stdout
    )
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    off, on = content["summary"]
    assert (off["variant"], on["variant"]) == ("off", "on")
    assert off["md5"] == on["md5"]
    assert (off["blocks"], on["blocks"]) == (2, 2)
    assert off["first"]["count"] == 2
    assert off["other"]["count"] == 4
    assert off["rss"] > 50e6
    assert sum(off["device_bytes"].values()) > 2e6
    proofs = [profile["proof"] for profile in content["profiles"]]
    assert all(proof["first token"] == proof["other token"] == 2 for proof in proofs)
    for profile in content["profiles"]:
        ours = [row for row in profile["rows"] if row["ours"] and row["phase"] == "other token"]
        assert {row["kernel"].partition("__")[0] for row in ours} >= {"ov_moe_gate_up", "ov_moe_down"}
        assert all(row["device_ms"] > 0 for row in ours)
        # Kernels may overlap a little; the plugin's averages over all inferences are several times a token's time.
        for phase, wall in profile["wall_ms"].items():
            assert 0 < sum(row["device_ms"] for row in profile["rows"] if row["phase"] == phase) < 1.3 * wall
    if content["facts"]["virtual_gpu"]:
        assert "The times are the CPU's and say nothing about any GPU" in done.stdout
        groups = [proof["first token, work-groups"] for proof in proofs]
        assert groups[1] < groups[0] / 80  # 102 against 8278: the grid's early exits
        assert off["builds"]["ours_compile"] == 16
        assert off["builds"]["ours_later"] == 0


def test_three_variants_there_and_back_on_the_cpu(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    table, picture = tmp_path / "out.csv", tmp_path / "out.svg"
    size = ("--prompt-tokens", "20,9", "-ic", 3, "-n", 1, "--warm-up", 1, "-bs", 2)
    done = bench(MODEL, "-d", "CPU", *size, "--no-proof", "--csv", table, "--plot", picture)
    assert done.returncode == 0, done.stderr
    assert "run outside the plugin, which is for checking results" in done.stdout
    order = [line.partition(": ")[2] for line in done.stderr.splitlines() if " of 6: " in line]
    assert order == ["unfused", "off", "on", "on", "off", "unfused"]
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["variant"] for row in rows] == [variant for variant in order for _ in range(4)]
    assert [row["iteration"] for row in rows[:4]] == ["0", "0", "1", "1"]
    assert len({row["result_md5"] for row in rows if row["prompt_idx"] == "0"}) == 1
    assert len({row["result_md5"] for row in rows}) == 2
    assert all(float(row["1st_latency(ms)"]) >= float(row["1st_infer_latency(ms)"]) > 0 for row in rows)
    assert "<svg" in picture.read_text(encoding="utf-8")  # what the name says
    assert {path.name for path in tmp_path.iterdir()} == {"out.csv", "out.svg"}


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(MODEL, tmp_path / "model"))
    path = folder / "openvino_model.xml"
    path.write_text(path.read_text(encoding="utf-8")[:5000], encoding="utf-8")
    return folder


def test_what_only_a_worker_can_see_is_one_sentence(broken: Path, tmp_path: Path) -> None:
    cases: list[tuple[tuple[object, ...], str]] = [
        ((broken,), f"{broken.resolve() / 'openvino_model.xml'} is broken XML"),
        ((MODEL, "-p", "some text"), "holds none: export the model with its tokenizer"),
        (
            (MODEL, "--property", "NO_SUCH=1"),
            "OpenVINO cannot compile the model for CPU: NotFound: Unsupported property NO_SUCH",
        ),
        ((MODEL, "-d", "HETERO:GPU,CPU"), "'HETERO:GPU,CPU' is not served"),
    ]
    for arguments, says in cases:
        device = () if "-d" in arguments else ("-d", "CPU")
        done = bench(*arguments, *device, "--variants", "on", "--csv", tmp_path / "out.csv")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("ov-moe: "), done.stderr
        assert says in done.stderr.splitlines()[-1]
        assert "The process of" not in done.stderr  # as of one that died
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out.csv").exists()


def test_a_rewritten_model_is_refused(tmp_path: Path) -> None:
    import openvino as ov

    import ov_moe
    from ov_moe.bench import worker
    from ov_moe.errors import InvalidInputError

    model = ov.Core().read_model(MODEL / "openvino_model.xml")
    ov_moe.optimize(model)
    ov.save_model(model, tmp_path / "openvino_model.xml", compress_to_fp16=False)
    path = str(tmp_path / "openvino_model.xml")
    job = Job(path, "CPU", "on", (Prompt(5),), 2, 1, 0, 1, 0, {}, 1024, 64, "ticket", None)
    with pytest.raises(InvalidInputError, match="holds ov-moe's operations already: give the original model"):
        worker.run(job, tmp_path)


def test_a_block_ran_in_a_phase_only_where_its_times_moved_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its operations stay EXECUTED in the plugin's profile for good."""
    import numpy as np
    import openvino as ov

    import ov_moe
    from ov_moe.bench import profile

    monkeypatch.setenv("OV_MOE_EVALUATE", "numpy")
    core = ov.Core()
    model = core.read_model(MODEL / "openvino_model.xml")
    names = [block.name for block in ov_moe.optimize(model).rewritten]
    session = profile.ProfiledSession(ov_moe.compile_model(core, model, "CPU", {"PERF_COUNT": True}))
    ids = np.array([[5]], np.int64)
    for phase in ("warm-up", "one", "one"):
        session.profiled_step(ids, phase)
    # What the plugin would show after an inference in which nothing ran: the same again.
    session._phases += ["none"] * 2
    session._profiles += [session._profiles[-1]] * 2
    session.take_apart()
    assert len(names) == 2
    assert session.blocks_run(names, "one", loop=False) == 2
    assert session.blocks_run(names, "none", loop=False) == 0
    assert session.blocks_run(["another"], "one", loop=False) == 0


@pytest.mark.parametrize(
    ("at", "whom", "number", "turns", "profiles", "says"),
    [
        ("2 of 4: on", "worker", signal.SIGKILL, 1, 0, "'on' was killed, most likely because memory ran out"),
        ("2 of 4: on", "command", signal.SIGTERM, 1, 0, "Interrupted."),
        ("3 of 4: profile of off", "worker", signal.SIGSEGV, 2, 1, "'off' was ended by SIGSEGV"),
        ("4 of 4: profile of on", "command", signal.SIGINT, 2, 1, "Interrupted."),
    ],
)
def test_what_was_complete_is_shown_and_written(
    at: str, whom: str, number: signal.Signals, turns: int, profiles: int, says: str, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    files = {name: tmp_path / f"out.{name}" for name in ("csv", "json", "plot.svg")}
    arguments = ["--prompt-tokens", 20, "-ic", 3, "-n", 1, "--warm-up", 1, "--rounds", 1, "--variants", "off,on"]
    arguments += ["--csv", files["csv"], "--json", files["json"], "--plot", files["plot.svg"]]
    words = [*map(str, arguments), *(word for each in EXACT for word in ("--property", each))]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "latency.py"), str(MODEL), "-d", "CPU", *words],
        env={**os.environ, "OV_MOE_FEW_TOKENS": FEW_TOKENS, "OV_MOE_EVALUATE": "numpy", "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stderr is not None
        while (line := command.stderr.readline().strip()) != at:
            assert line, "it ended before"
        victim = command.pid
        while victim == command.pid and whom == "worker":
            children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text(encoding="ascii").split()
            victim = int(children[0]) if children else victim
        os.kill(victim, number)
        output, errors = command.communicate(timeout=120)
    assert command.returncode == (128 + number if whom == "command" else 1)
    assert errors.splitlines()[-1].startswith("ov-moe: ")
    assert says in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert says in output
    content: dict[str, Any] = json.loads(files["json"].read_text(encoding="utf-8"))
    early = "profile of off" not in at
    assert content["complete"] == (not early)
    assert content["planned"] == ["off", "on"]
    assert content["order"] == ["off", "on"][:turns]
    assert [len(content[name]) for name in ("turns", "summary", "profiles")] == [turns, turns, profiles]
    assert set(content["unproven"]) == (set() if early else {"off"})
    assert (says in content["stopped"]) if early else content["stopped"] is None
    assert f"INCOMPLETE, {turns} of 2 timed turns, {profiles} of 2 profiles" in output or not early
    rows = list(csv.DictReader(files["csv"].read_text(encoding="utf-8").splitlines()))
    assert [row["variant"] for row in rows] == [name for name in ["off", "on"][:turns] for _ in range(2)]
    assert {row["run_complete"] for row in rows} == {str(not early)}
    assert "<svg" in files["plot.svg"].read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"out.csv", "out.json", "out.plot.svg"}
