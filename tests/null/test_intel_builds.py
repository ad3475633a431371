"""Intel's offline compiler and the check that builds every kernel variant with it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from kernel_cases import emulated

from ov_moe.devices import ocloc
from ov_moe.devices.ocloc import Build
from ov_moe.errors import DeviceError
from ov_moe.kernels.micro import MICRO_KERNELS, Gemv
from ov_moe.kernels.stages import STAGES

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_intel_builds"
installed = pytest.mark.skipif(shutil.which("ocloc") is None, reason="apt install intel-opencl-icd brings ocloc")

FEW = "kernel void few(global float *a) { a[get_global_id(0)] *= 2; }\n"
# 120 values a work-item, 2 registers each with 16 work-items a thread: more than 128 registers hold.
MANY = """
__attribute__((intel_reqd_sub_group_size(16))) kernel void many(global float *a, int n)
{
    float x[120];
    _Pragma("unroll") for (int i = 0; i < 120; ++i) x[i] = a[i * get_global_size(0) + get_global_id(0)];
    for (int j = 0; j < n; ++j)
        _Pragma("unroll") for (int i = 0; i < 120; ++i) x[i] = fma(x[i], a[j], x[(i + 7) % 120]);
    _Pragma("unroll") for (int i = 0; i < 120; ++i) a[i * get_global_size(0) + get_global_id(0)] = x[i];
}
"""
# The same values in loops that the compiler leaves as they are: an array in memory, of which no warning tells.
ARRAY = MANY.replace('_Pragma("unroll")', '_Pragma("nounroll")').replace("many", "array")
DPAS = """
float8 __attribute__((overloadable)) intel_sub_group_f16_f16_matrix_mad_k16(int8, int8, float8);
__attribute__((intel_reqd_sub_group_size(8))) kernel void matrix(const global int8 *a, global float8 *c)
{
    const int i = get_global_id(0);
    c[i] = intel_sub_group_f16_f16_matrix_mad_k16(a[i], a[i + 1], c[i]);
}
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The check as a module."""
    spec = importlib.util.spec_from_file_location("check_intel_builds", SCRIPT.with_suffix(".py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT.with_suffix(".py")), *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, check=False, text=True, timeout=300
    )


@installed
@pytest.mark.parametrize("device", ocloc.DEVICES)
def test_a_small_kernel(device: str) -> None:
    build = ocloc.build(FEW, "few", device)
    assert build.error is None
    assert (build.spilled, build.memory_bytes, build.dpas, build.local_bytes) == (0, 0, 0, 0)
    assert build.registers == 128
    assert build.simd in (8, 16, 32)
    assert 4 <= build.instructions < 100


@installed
@pytest.mark.parametrize("device", ocloc.DEVICES)
def test_spills_are_read(device: str) -> None:
    build = ocloc.build(MANY, "many", device)
    assert (build.error, build.simd) == (None, 16)
    assert build.spilled > 100
    assert build.memory_bytes > 0


@installed
def test_an_array_in_memory_is_read_though_nothing_warns_of_it() -> None:
    build = ocloc.build(ARRAY, "array", "acm-g10")
    assert (build.error, build.spilled) == (None, 0)
    assert build.memory_bytes >= 4 * 120


@installed
def test_dpas_is_counted_in_the_code() -> None:
    build = ocloc.build(DPAS, "matrix", "acm-g10")
    assert (build.error, build.dpas, build.simd) == (None, 1, 8)


@installed
@pytest.mark.parametrize("device", ["tgllp", "dg1"])
def test_an_instruction_that_was_left_out_is_an_error(device: str) -> None:
    """The compiler says "INVALID opcode dpas", then that it succeeded."""
    build = ocloc.build(DPAS, "matrix", device)
    assert build.error == "INVALID opcode dpas"


@installed
def test_the_compilers_complaints_are_kept() -> None:
    build = ocloc.build("kernel void wrong(global float *a) { a[0] = missing; }", "wrong", "skl")
    assert build.error is not None
    assert "use of undeclared identifier 'missing'" in build.error
    assert build.registers == 0


@installed
def test_options_reach_the_compiler() -> None:
    text = "kernel void option(global int *a) { a[0] = VALUE; }"
    assert ocloc.build(text, "option", "skl").error is not None
    assert ocloc.build(text, "option", "skl", (*ocloc.OPTIONS, "-DVALUE=3")).error is None


def test_without_ocloc_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError) as caught:
        ocloc.build(FEW, "few", "skl")
    sentence = (
        "ocloc, Intel's offline OpenCL compiler, is not installed: `apt install intel-opencl-icd` "
        "(Debian, Ubuntu) brings it; no Intel GPU is needed."
    )
    assert str(caught.value) == sentence
    done = run("--only", "route", PATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{sentence}\n")


def test_another_binary_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An ocloc that writes what this module cannot read."""
    fake = tmp_path / "ocloc"
    fake.write_text("#!/bin/sh\nprintf 'no ELF file' > program.bin\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(DeviceError, match="this version of ocloc writes another format"):
        ocloc.build(FEW, "few", "skl")


def test_sections_of_an_elf_file() -> None:
    names, body = b"\0.text\0.names\0", b"code"
    header = b"\x7fELF\x02".ljust(0x28, b"\0") + struct.pack("<Q", 64 + len(names) + len(body))
    header = header.ljust(0x3A, b"\0") + struct.pack("<HHH", 64, 2, 1)
    first = struct.pack("<II4Q", 1, 1, 0, 0, 64 + len(names), len(body)).ljust(64, b"\0")
    second = struct.pack("<II4Q", 7, 3, 0, 0, 64, len(names)).ljust(64, b"\0")
    assert ocloc.elf_sections(header + names + body + first + second) == {".text": body, ".names": names}
    assert ocloc.elf_sections(b"no ELF file") == {}


def test_the_variants_cover_what_the_product_can_choose(script: ModuleType) -> None:
    variants = list(script.variants())
    assert {v.stage.op_type for v in variants} >= {stage.op_type for stage in STAGES if not stage.decode}
    assert len({(v.name, v.stage.entry) for v in variants}) == len(variants)
    texts = [variant.text() for variant in variants]
    assert len(set(texts)) == len(texts)
    for name, values in {
        "SCHEDULE": {"grid", "ticket", "stride"},
        "GATE_FORMAT": {"float", "u8", "i8", "u4", "i4", "f4e2m1"},
        "LAYOUT": {"separate", "interleaved", "halves"},
        "ACTIVATION": {"swiglu", "geglu_tanh", "geglu_erf", "reglu"},
        "OUTPUT0_TYPE": {"half", "float", "int"},
        "TILE_M": {"8", "32"},
        "SUBGROUP": {"8", "16"},
    }.items():
        assert {found for text in texts for found in re.findall(rf"#define {name} (\w+)\n", text)} >= values, name


def test_the_variants_follow_the_table(script: ModuleType) -> None:
    assert {v.config.micro.name for v in script.variants()} == set(MICRO_KERNELS)
    only = list(script.variants({"gemv": MICRO_KERNELS["gemv"]}))
    assert {v.config.micro for v in only} == {Gemv(subgroup=8), Gemv(subgroup=16)}


def test_an_error_fails_the_check(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(text: str, entry: str, device: str, *options: Any) -> Build:
        return Build(device, entry, 0.25, error="line 3: [unknown] name" if device == "skl" else None, simd=16)

    monkeypatch.setattr(ocloc, "find", lambda: "ocloc")
    monkeypatch.setattr(ocloc, "build", build)
    with pytest.raises(script.typer.Exit) as left:
        script.main(["skl", "pvc"], only="route")
    assert left.value.exit_code == 1
    table = capsys.readouterr().out
    assert "line 3: [unknown] name" in table
    assert table.rstrip().endswith("12 builds, 6 errors; 0 report spills, 0 keep values in memory.")
    script.main(["pvc"], only="route", as_json=True)
    records = json.loads(capsys.readouterr().out)
    assert [record["entry"] for record in records] == ["ov_moe_route"] * 6
    assert records[0]["error"] is None


@installed
def test_the_command_builds_for_an_intel_gpu() -> None:
    done = run("--device", "tgllp", "--only", "Qwen3-30B u4 g128 ticket fma float16", "--json")
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert {record["entry"] for record in records} == {"ov_moe_gate_up", "ov_moe_down", "ov_moe_combine"}
    for record in records:
        assert (record["error"], record["spilled"], record["memory_bytes"]) == (None, 0, 0)


@installed
@pytest.mark.parametrize("device", ["acm-g10", "pvc"])
def test_dpas_stays_in_registers(device: str) -> None:
    done = run("--device", device, "--only", "Qwen3-30B u4 g128 ticket dpas", "--json")
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    # 2 operands of 16 k a load, 4 fragments of rows, 2 of columns; fma where buffers are f32
    expected = {"ov_moe_gate_up": [16, 0], "ov_moe_down": [16, 0]}
    for entry, counts in expected.items():
        assert [record["dpas"] for record in records if record["entry"] == entry] == counts
    for record in records:
        assert (record["spilled"], record["memory_bytes"]) == (0, 0)


@installed
@pytest.mark.parametrize("device", ["tgllp", "pvc"])
def test_gemv_stays_in_registers(device: str) -> None:
    done = run("--device", device, "--only", "Qwen3-30B u4 g128 decode gemv", "--json")
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert len(records) == 4
    for record in records:
        assert (record["spilled"], record["memory_bytes"]) == (0, 0)


@installed
def test_a_dpas_variant_without_dpas_is_an_error(script: ModuleType) -> None:
    variant = next(script.variants({"dpas": MICRO_KERNELS["dpas"]}))
    without = replace(variant, config=emulated(variant.config))
    assert script.check(without, "acm-g10").error == "the code holds no dpas instruction"
    fallback = replace(variant, buffers="float32")
    assert script.check(fallback, "acm-g10").error is None


def test_a_filter_that_holds_nothing_is_refused() -> None:
    done = run("--only", "no such kernel")
    assert done.returncode == 2
    assert "no variant holds 'no such kernel'" in done.stderr
