"""``ov-moe doctor``: one run on this machine, and every finding from facts that are made up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ov_moe.demo import MODEL
from ov_moe.doctor import command
from ov_moe.doctor.ask import ask
from ov_moe.doctor.checks import (
    check_config,
    check_cpu_runtime,
    check_device_string,
    check_devices,
    check_gpu,
    check_opencl,
)
from ov_moe.doctor.finding import Finding
from ov_moe.doctor.model_checks import BUILD_SECONDS, check_model, check_probe
from ov_moe.options import Config

INHERITED = ("OV_MOE_VGPU_CACHE", "OV_MOE_VIRTUAL_GPU")
RUN = "import typer; from ov_moe.doctor import command; typer.run(command)"
GIB = 2**30

GPU: dict[str, Any] = {
    "driver": "26.1",
    "GPU_EXECUTION_UNITS_COUNT": 96,
    "OPTIMIZATION_CAPABILITIES": ["FP16"],
    "GPU_DEVICE_TOTAL_MEM_SIZE": 16 * GIB,
    "GPU_DEVICE_MAX_ALLOC_MEM_SIZE": 4 * GIB,
    "DEVICE_TYPE": "INTEGRATED",
    "INFERENCE_PRECISION_HINT": "f16",
}
BLOCK = {
    "name": "b",
    "experts": 128,
    "top_k": 8,
    "hidden": 2048,
    "intermediate": 768,
    "precision": {"gate": "u4 g128 sym"},
}
MODEL_FACTS: dict[str, Any] = {
    "already": False,
    "blocks": [BLOCK] * 48,
    "skipped": [],
    "builds": 8 * 48,
    "kernels": {"prefill": {"schedule": "pool", "fetch": "ticket", "groups": 192, "tile_m": 32, "micro_kernel": "fma"}},
    "why": "no XMX of a kind that ov-moe knows",
    "largest_buffer": 2**24,
    "weights": 15 * GIB // 2,
    "cache_beside": [],
}
PROBE: dict[str, Any] = {
    "tokens": [1, 2],
    "expected": [1, 2],
    "compile_s": 3.0,
    "operations": 16,
    "builds": {},
    "largest_buffer": 2**24,
    "memory": {"usm_device": 2**25, "usm_host": 2**20},
    "cached_files": 1,
}


def named(findings: list[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check.endswith(check)]
    return found


def test_a_machine_is_examined(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    environment = {name: value for name, value in os.environ.items() if name not in INHERITED}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(MODEL), "--json", str(file)],
        env={**environment, "OV_MOE_GROUPS": "6", "OV_MOE_BALANCED": "on"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(file.read_text(encoding="utf-8"))
    found = {finding["check"]: finding for finding in content["findings"] if finding["level"] != "warning"}
    assert "2 blocks will be rewritten: 64 experts, top 8" in found["model"]["found"]
    assert "pool of 6 work-groups, tasks by ticket (fma, tile_m 32" in found["kernels for prefill"]["found"]
    assert "pool of 6 work-groups, tasks by ticket (gemv, tile_m 8" in found["kernels for decode"]["found"]
    assert found["micro-kernel"]["found"] == "fma: no XMX of a kind that ov-moe knows"
    assert "16 builds x 0.55 s" in found["compile time"]["found"]
    assert "gives the CPU plugin's tokens" in found["probe: kernels"]["found"]
    assert "same tokens" in found["probe: model cache"]["found"]
    assert found["options"]["found"] == "OV_MOE_GROUPS=6"
    assert any("OV_MOE_BALANCED is set, but no option" in finding["found"] for finding in content["findings"])
    assert {option["variable"] for option in content["config"] if option["changed"]} == {"OV_MOE_GROUPS"}
    virtual = any("virtual GPU stands in" in finding["found"] for finding in content["findings"])
    assert virtual == ("virtual" in content["facts"]["openvino"]["devices"].get("GPU", {}).get("FULL_DEVICE_NAME", ""))
    if virtual:
        assert "compute units; for the virtual GPU" in found["OpenCL from pip"]["found"]
        assert content["facts"]["probe"]["builds"]["ours"] == 16


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["/nowhere"], "There is no model at /nowhere"),
        (["--json", "/no/such/folder/x"], "cannot be written"),
        (["--no-probe", "-d", "HETERO:GPU,CPU"], "checks failed: AUTO, HETERO."),
        (["--no-probe", "-d", "foo"], "checks failed: device."),
        (["--no-probe", "-d", "GPU.77"], "checks failed: device."),
    ],
)
def test_a_failed_check_is_exit_status_1(arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: dict[str, Any] = {"platforms": []}
    facts = {
        "opencl": nothing,
        "cpu_runtime": nothing,
        "openvino": {"version": "1", "devices": {"CPU": {}, "GPU": GPU}},
    }
    monkeypatch.setattr("ov_moe.doctor.app.ask", lambda what, *_, **__: facts[what])
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_look_that_crashes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen
    for code, says in (
        ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        ("raise OSError('bad driver')", "failed: OSError: bad driver"),
    ):
        monkeypatch.setattr(
            subprocess, "Popen", lambda _command, code=code, **rest: real([sys.executable, "-c", code], **rest)
        )
        assert says in ask("openvino")["error"]


def test_options_that_are_set_and_variables_that_are_none() -> None:
    environment = {"OV_MOE_BALANCE": "on", "OV_MOE_TYPO": "1"}
    found = check_config(Config.from_environment(environment), environment)
    assert found[0].found == "OV_MOE_BALANCE=on"
    assert (found[1].level, found[1].found) == ("warning", "OV_MOE_TYPO is set, but no option of ov-moe")
    assert check_config(Config(), {})[0].found == "all at their defaults"


def test_what_ov_moe_sets_itself_is_not_listed_as_set() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in INHERITED}
    code = (
        "import os; from ov_moe.options import Config; from ov_moe.doctor.checks import check_config\n"
        "from ov_moe import virtual_gpu; assert virtual_gpu.running()\n"
        "print(*(finding.found for finding in check_config(Config.from_environment(), os.environ)), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "OV_MOE_VIRTUAL_GPU": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "DeviceError" in done.stderr:
        pytest.skip("no virtual GPU here")
    assert done.stdout == "OV_MOE_VIRTUAL_GPU=on\n", done.stderr


def test_opencl_runtimes() -> None:
    device = {"name": "Arc", "driver": "1.2", "compute_units": 96, "gpu": True}
    platform = {"name": "Intel", "version": "OpenCL 3.0", "devices": [device]}
    (found,) = check_opencl({"platforms": [platform]})
    assert found.found == "Intel (OpenCL 3.0): Arc, driver 1.2, 96 compute units"
    none = check_opencl({"platforms": []})[0]
    assert none.found == "the system's drivers show no platform (empty list)"
    assert "intel-opencl-icd" in none.advice
    assert check_cpu_runtime({"platforms": [platform]})[0].found.endswith("compute units; for the virtual GPU")
    missing = check_cpu_runtime({"error": "it is not installed."})[0]
    assert (missing.level, missing.found) == ("note", "no virtual GPU here: it is not installed.")
    assert check_opencl({"error": "it crashed"})[0].level == "failed"


def test_a_virtual_gpu_is_a_warning() -> None:
    facts = {"version": "1", "devices": {"GPU": {"FULL_DEVICE_NAME": "virtual"}}}
    assert [finding.level for finding in check_devices(facts, True)] == ["ok", "warning"]
    assert [finding.level for finding in check_devices(facts, False)] == ["ok"]


def test_xmx_is_met_with_the_command_that_compares() -> None:
    without = named(check_gpu("GPU", GPU), "XMX")
    assert (without.level, without.advice) == ("ok", "")
    capable = {**GPU, "OPTIMIZATION_CAPABILITIES": ["FP16", "GPU_HW_MATMUL"]}
    xmx = named(check_gpu("GPU.1", {**capable, "GPU_UARCH_VERSION": "20.1.4"}), "XMX")
    assert "architecture 20.1.4: ov-moe takes dpas with sub-groups of 16" in xmx.found
    assert "architecture unknown: ov-moe takes fma, not dpas" in named(check_gpu("GPU", capable), "XMX").found
    assert "fused MoE of its own" in xmx.found
    assert "ov-moe bench MODEL --device GPU.1 --variants unfused,on" in xmx.advice


def test_units_memory_and_the_routers_precision() -> None:
    found = check_gpu("GPU", GPU)
    assert named(found, "compute units").found == "96: the pool has 192 work-groups"
    assert named(found, "GPU memory").found == "16.0 GiB, at most 4.0 GiB in one buffer (integrated)"
    assert "INFERENCE_PRECISION_HINT=f32" in named(found, "router precision").advice
    assert named(check_gpu("GPU", {**GPU, "INFERENCE_PRECISION_HINT": "f32"}), "router precision").level == "ok"


@pytest.mark.parametrize(
    ("device", "level"),
    [
        *((name, "ok") for name in ("auto", "CPU", "GPU", "GPU.1", "AUTO:GPU", "MULTI:GPU.0")),
        *((name, "failed") for name in ("AUTO", "HETERO:GPU,CPU", "NPU", "AUTO:CPU", "foo", "", "GPU.x", "GPUs")),
    ],
)
def test_devices_that_are_not_served_are_refused(device: str, level: str) -> None:
    found = check_device_string(device)
    assert found.level == level
    assert ("AUTO:GPU, MULTI:GPU or CPU" in found.advice) == (level == "failed")
    if level == "failed":  # only of those that may fall back is that said
        falls_back = device.startswith(("AUTO", "HETERO"))
        assert found.check == ("AUTO, HETERO" if falls_back else "device")
        assert ("run the blocks on the CPU" in found.found) == falls_back


def test_a_models_kernels_and_the_estimate_of_its_compile_time() -> None:
    found = check_model(MODEL_FACTS, 16 * GIB)
    assert "48 blocks will be rewritten: 128 experts, top 8, hidden 2048, intermediate 768" in found[0].found
    assert named(found, "prefill").found == "pool of 192 work-groups, tasks by ticket (fma, tile_m 32)"
    time = named(found, "compile time")
    assert f"about {384 * BUILD_SECONDS:.0f} s" in time.found
    assert "an estimate, 384 builds x 0.55 s" in time.found
    assert time.level == "note"


@pytest.mark.parametrize(
    ("kernels", "level", "says"),
    [
        ({"micro_kernel": "fma"}, "ok", "fma: the reason"),
        ({"micro_kernel": "dpas", "emulation": False}, "note", "no real XMX device has run it"),
        ({"micro_kernel": "dpas", "emulation": True}, "warning", "dpas: the reason"),
    ],
)
def test_the_micro_kernel_and_that_dpas_is_unproven(kernels: dict[str, Any], level: str, says: str) -> None:
    prefill = {**MODEL_FACTS["kernels"]["prefill"], **kernels}
    found = named(check_model({**MODEL_FACTS, "kernels": {"prefill": prefill}, "why": "the reason"}, 0), "micro-kernel")
    assert found.level == level
    assert says in found.found
    assert "OV_MOE_MICRO_KERNEL" in found.advice or level == "ok"


def test_the_cpu_has_no_kernels_no_builds_and_no_device_memory() -> None:
    assert {finding.check for finding in check_model(MODEL_FACTS, 0, gpu=False)} == {"model", "model memory"}
    checks = {finding.check for finding in check_probe({**PROBE, "memory": {}}, PROBE, False)}
    assert checks == {"probe: kernels", "probe: model cache"}


def test_reasons_of_blocks_left_alone_are_passed_on() -> None:
    facts = {**MODEL_FACTS, "blocks": [], "kernels": None, "skipped": ["b: its ids are constant"]}
    assert [finding.level for finding in check_model(facts, 0)] == ["warning", "warning"]
    assert check_model(facts, 0)[1].found == "left alone: b: its ids are constant"


@pytest.mark.parametrize(("memory", "level"), [(0, "ok"), (16 * GIB, "ok"), (8 * GIB, "warning"), (7 * GIB, "failed")])
def test_a_model_that_does_not_fit(memory: int, level: str) -> None:
    assert named(check_model(MODEL_FACTS, memory), "model memory").level == level


@pytest.mark.parametrize(
    ("host", "discrete", "level"),
    [(2**20, True, "ok"), (2**25, False, "ok"), (2**25, True, "failed")],
)
def test_buffers_in_host_memory_are_a_trap_on_a_discrete_card_only(host: int, discrete: bool, level: str) -> None:
    facts = {**PROBE, "memory": {"usm_device": 2**22, "usm_host": host}}
    found = named(check_probe(facts, PROBE, discrete), "buffers")
    assert found.level == level
    assert ("37461" in found.advice) == (level == "failed")


@pytest.mark.parametrize(
    ("second", "level"),
    [
        ({}, "ok"),
        ({"tokens": [1, 3]}, "failed"),
        ({"error": "The process that looked was ended by SIGSEGV."}, "failed"),
    ],
)
def test_the_model_cache_is_tried_in_a_second_process(second: dict[str, Any], level: str) -> None:
    assert named(check_probe(PROBE, {**PROBE, **second}, False), "model cache").level == level


def test_a_model_that_cannot_be_read_says_what_to_do() -> None:
    (found,) = check_model({"error": "OpenVINO cannot read it."}, 0)
    assert (found.level, found.found) == ("failed", "OpenVINO cannot read it.")
    assert found.advice == "correct that, or leave MODEL out to see the other checks"


def test_wrong_tokens_and_errors_of_the_probe_are_failures() -> None:
    assert named(check_probe({**PROBE, "expected": [1, 9]}, PROBE, False), "kernels").level == "failed"
    assert check_probe({"error": "no device"}, None, False) == [
        Finding("failed", "probe: kernels", "no device", "send this sentence with the rows above it")
    ]
