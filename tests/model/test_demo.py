"""The demonstration, run as a user runs it: a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ov_moe import __version__
from ov_moe.demo import MODEL
from ov_moe.demo.measure import Row
from ov_moe.demo.run import check
from ov_moe.devices import place
from ov_moe.errors import OvMoeError

COMMAND = Path(sys.executable).with_name("ov-moe")
# What this process set for its own virtual GPU: the command decides for itself.
INHERITED = ("OV_MOE_VIRTUAL_GPU",)


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in INHERITED} | variables
    return subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def cells(output: str, variant: str) -> list[str]:
    """A row of the table, without the variant's name."""
    (row,) = re.findall(rf"^[│|] {variant} .*$", output, re.MULTILINE)
    return [cell.strip() for cell in re.split("[│|]", row)][2:-1]


def test_demo_on_a_gpu_agrees_with_the_reference() -> None:
    done = run("demo", "--tokens", "6")
    assert done.returncode == 0, done.stderr
    assert "2 MoE blocks rewritten, 0 left alone" in done.stdout
    assert "Tokens: 116 173 93 226 147 207\n" in done.stdout
    assert "logits bit-identical." in done.stdout
    assert "NOT" not in done.stdout
    virtual = "ov-moe virtual GPU" in done.stdout
    assert virtual == ("The times are the CPU's and say nothing about any GPU" in done.stdout)
    for variant, rewritten in (("unfused", "0"), ("balance off", "2"), ("balance on", "2")):
        blocks, error, same, launches, groups, at_compile, later, prefill, token = cells(done.stdout, variant)
        assert (blocks, same) == (rewritten, "yes")
        assert float(error) < 1e-4
        assert min(float(prefill), float(token)) > 0
        if not virtual:
            assert {launches, groups, at_compile, later} == {"n/a"}
        else:
            assert later.endswith("(0)")  # none of ov-moe's kernels is built while tokens flow
            assert (int(launches) > 0) == (rewritten != "0")
            assert at_compile.endswith("(0)") == (rewritten == "0")
    if virtual:
        # Route and Combine launch the same groups in both: about half of the pool's hundred.
        assert int(cells(done.stdout, "balance on")[4]) < int(cells(done.stdout, "balance off")[4]) / 80


def test_demo_on_the_cpu_says_where_its_operations_run() -> None:
    done = run("demo", "--device", "CPU", "--tokens", "2")
    assert done.returncode == 0, done.stderr
    assert "run outside the plugin" in done.stdout
    assert cells(done.stdout, "balance on")[3:7] == ["n/a"] * 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "/nowhere/model.xml"), "There is no model at /nowhere/model.xml"),
        (("--device", "HETERO:GPU,CPU"), "'HETERO:GPU,CPU' is not served"),
        (("--device", "GPU.77"), "OpenVINO sees no GPU.77 here"),
    ],
)
def test_demo_refuses_in_one_sentence(arguments: tuple[str, ...], says: str) -> None:
    done = run("demo", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("ov-moe: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_demo_refuses_what_is_no_model(tmp_path: Path) -> None:
    """Before OpenVINO's readers of other formats see it, which write lines of their own."""
    path = tmp_path / "model.xml"
    path.write_text("garbage", encoding="utf-8")
    done = run("demo", "--device", "CPU", "--model", str(path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"{path.with_suffix('.bin')} is missing" in done.stderr
    path.with_suffix(".bin").touch()
    done = run("demo", "--device", "CPU", "--model", str(path))
    assert done.returncode == 1
    assert done.stderr == (
        f"ov-moe: {path} is broken XML (syntax error: line 1, column 0): export it again, or copy both files again.\n"
    )


def test_demo_refuses_an_optimised_model(tmp_path: Path) -> None:
    assert run("optimize", str(MODEL), str(tmp_path / "fused")).returncode == 0
    done = run("demo", "--device", "CPU", "--model", str(tmp_path / "fused"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "holds ov-moe's operations already: give the original model" in done.stderr


def test_opencl_by_wish_is_missed_before_anything_is_compiled_for_it(tmp_path: Path) -> None:
    """Without OpenCL on the machine: demo and the worker of bench say so, not the first inference."""
    nothing = {"OCL_ICD_VENDORS": str(tmp_path), "OV_MOE_EVALUATE": "opencl"}
    for command in (("demo", "--device", "CPU"), ("bench", str(MODEL), "-d", "CPU", "--variants", "on")):
        done = run(*command, **nothing)
        assert done.returncode == 1
        assert "Traceback" not in done.stdout + done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("ov-moe: OV_MOE_EVALUATE is 'opencl', and there is no such device: No OpenCL platform")


@pytest.mark.parametrize("real", [["GPU.0", "GPU.1"], []])
def test_a_real_gpu_comes_before_the_virtual_one(real: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(place.virtual_gpu, "running", lambda: False)
    monkeypatch.setattr(place.virtual_gpu, "start", lambda: started.append(True))
    monkeypatch.setattr(place, "real_gpus", lambda: real)
    assert place.choose("auto").device == "GPU"
    assert place.choose("auto").virtual == (not real)
    assert bool(started) == (not real)
    assert not place.choose("GPU.1").virtual


def test_a_failing_look_for_gpus_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ov_moe.children._CHILD", "raise RuntimeError('driver broken')")
    with pytest.raises(OvMoeError, match=r"looked for GPUs: RuntimeError: driver broken"):
        place.real_gpus()


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"ov-moe {__version__}\n")


@pytest.mark.parametrize(
    ("error", "same", "says"),
    [(2e-3, True, "deviate by 2.0e-03"), (np.nan, True, "deviate by nan"), (1e-6, False, "other tokens")],
)
def test_a_wrong_variant_is_an_error(error: float, same: bool, says: str) -> None:
    logits = np.zeros((1, 2, 3), np.float32)
    good = Row("unfused", 0, 1e-6, True, logits, None, 1.0, 1.0)
    check([good])
    with pytest.raises(OvMoeError, match=says):
        check([good, Row("balance on", 2, error, same, logits, None, 1.0, 1.0)])
