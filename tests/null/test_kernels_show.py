"""``ov-moe kernels show``: the program that the product composes, alone on standard output, and why that one."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ov_moe.cli import app
from ov_moe.devices import ocloc
from ov_moe.devices.intel_gpus import XMX_SUBGROUPS, intel_gpu
from ov_moe.devices.xmx import XMX, xmx_subgroup
from ov_moe.kernel_bench.shapes import block_spec, find_shape
from ov_moe.kernel_bench.weights import random_block
from ov_moe.kernel_show.choice import STAGES
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.block_program import ACTIVATIONS, Rows, buffers, largest_buffer
from ov_moe.kernels.choose import choose_model_config
from ov_moe.kernels.compose import program
from ov_moe.kernels.config import LARGE_BUFFERS, KernelConfig
from ov_moe.kernels.formats import FORMATS
from ov_moe.kernels.geometry import work_size
from ov_moe.kernels.layer_xml import layer_element
from ov_moe.kernels.micro import switch_words
from ov_moe.kernels.stages import COMBINE, DOWN, ROUTE, Stage, for_decode
from ov_moe.spec import Balance, Switches, Workload

installed = pytest.mark.skipif(shutil.which("ocloc") is None, reason="apt install intel-opencl-icd brings ocloc")
SMALL = ("--shape", "64/32/64/8", "--tokens", "9")


def show(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["kernels", "show", *SMALL, *map(str, arguments)])


def said(done: Result) -> dict[str, str]:
    """What standard error says, by name."""
    return {line[:13].strip(): line[14:] for line in done.stderr.splitlines()}


def chosen(
    stage: str, block: BlockSpec, device: str, balance: Balance, word: str, few: bool
) -> tuple[Stage, KernelConfig]:
    """What the compilation of a model chooses."""
    step = {"route": ROUTE, "gate_up": block.gate_up_stage, "down": DOWN, "combine": COMBINE}[stage]
    work = Workload(block.max_tokens, block.experts, block.top_k, block.hidden, block.intermediate)
    config = choose_model_config(work, work, intel_gpu(device), Switches(balance, micro_kernel=word))
    step = for_decode(step) if few else step
    return step, config.of(step)


def test_every_program_is_the_products() -> None:
    block, seen = block_spec(find_shape("64/32/64/8"), "u4", 9), set[str]()
    ways = itertools.product(("tgllp", "acm-g10", "bmg"), switch_words(), (False, True), ("on", "off"), STAGES)
    for device, word, few, balance, stage in ways:
        if word == "dpas" and not intel_gpu(device).xmx_subgroup:
            continue
        step, config = chosen(stage, block, device, balance, word, few)
        words = ["--device", device, "--micro-kernel", word, "--stage", stage, "--balance", balance]
        done = show(*words, *(["--decode"] if few else []))
        assert done.exit_code == 0, done.stderr
        assert done.stdout == program(step, config, block.attributes(), *buffers(step, block, "float16"))
        size = work_size(step, config, block.sizes())
        options = layer_element(step, config, size).find("CompilerOptions")
        assert options is not None
        notes = said(done)
        assert notes["options"] == options.get("options")
        assert notes["lines"] == str(len(done.stdout.splitlines()))
        assert step.op_type in notes["kernel"]
        if step.multiplies:
            assert notes["micro-kernel"].split()[0] == config.micro.name
            assert f"tile_m {config.micro.tile_m}, tile_n {config.micro.tile_n}" in notes["tiles"]
            assert notes["schedule"].split()[0].rstrip(",") == ("pool" if few or balance == "on" else "grid")
            seen.add(config.micro.name)
    assert seen >= {"fma", "gemv", "dpas"}


@pytest.mark.parametrize("shape", ["64/32/8/2", "gpt-oss-20b", "granite-3.0-1b"])
@pytest.mark.parametrize("precision", FORMATS)
def test_buffers_hold_as_many_numbers_as_a_blocks_weights_are(shape: str, precision: str) -> None:
    """Of the same types; the benchmark makes its arrays on its own."""
    small = replace(find_shape(shape), hidden=64, intermediate=32, experts=8, top_k=2)
    spec = block_spec(small, precision, 9)
    block = random_block(np.random.default_rng(0), spec)
    for stage, arrays in ((spec.gate_up_stage, block.gate_up_inputs()), (DOWN, block.down_inputs())):
        inputs, _ = buffers(stage, spec, "float16")
        assert len(inputs) == stage.inputs == 2 + len(arrays)
        for (lengths, kind), array in zip(inputs[2:], arrays, strict=True):
            assert prod(lengths) == array.size
            assert kind == array.dtype.name or array.size == 1


def test_what_the_choice_depends_on() -> None:
    def line(name: str, *arguments: object) -> str:
        return said(show(*arguments))[name]

    assert line("schedule") == "pool, tasks by ticket (auto: 64 experts, and the pool is taken from 64 on)"
    assert line("schedule", "--shape", "64/32/32/8").startswith("grid (auto: 32 experts")
    assert line("schedule", "--balance", "off", "--decode") == "pool, tasks by ticket (few tokens always have it)"
    assert line("micro-kernel", "--device", "bmg") == "dpas (XMX with sub-groups of 16 and f16 activations)"
    assert line("micro-kernel", "--device", "tgllp") == "fma (no XMX of a kind that ov-moe knows)"
    assert line("micro-kernel", "--activations", "float32") == "fma (activations are f32, and XMX takes f16)"
    asked = line("micro-kernel", "--activations", "float32", "--micro-kernel", "dpas")
    assert asked == "dpas (asked for; rows are float32, so fma computes in its tiles)"
    assert "u8 g16 asym; float16, room for 9 tokens" in line("block", "--precision", "u8", "--group", 16)
    room = [show("--tokens", number).stdout.splitlines() for number in (9, 10)]
    changed = {before.split()[1] for before, after in zip(*room, strict=True) if before != after}
    assert changed == {"MAX_TOKENS", "INPUT0_DIMS", "INPUT1_DIMS", "OUTPUT0_DIMS"}


def test_buffers_of_more_than_32_bits() -> None:
    large = ("--shape", "deepseek-v3", "--precision")
    assert LARGE_BUFFERS not in said(show(*large, "u4"))["options"]
    assert said(show(*large, "f16"))["options"].split()[-1] == LARGE_BUFFERS
    assert largest_buffer(block_spec(find_shape("deepseek-v3"), "f16", 9), "float16") == 256 * 2048 * 7168 * 2


@pytest.mark.parametrize("rows", ACTIVATIONS)
def test_a_file_gets_it_whole(rows: Rows, tmp_path: Path) -> None:
    place = tmp_path / "gate_up.cl"
    done = show("--activations", rows, "--output", place)
    assert (done.exit_code, done.stdout) == (0, "")
    assert place.read_text(encoding="utf-8") == show("--activations", rows).stdout
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--shape", "qwen4"), "shape 'qwen4' is unknown: use qwen3-30b, "),
        (("--precision", "u5"), "precision 'u5' is unknown: use f32, "),
        (("--group", 7), "gate: group size 7 must be even and divide K = 64"),
        (("--activations", "f16"), "activations is 'f16', it must be 'float16' or 'float32'."),
        (("--stage", "layer"), "stage is 'layer', it must be 'route', 'gate_up', 'down' or 'combine'."),
        (("--balance", "maybe"), "balance is 'maybe', it must be 'auto', 'on' or 'off'."),
        (("--micro-kernel", "gemv"), "micro_kernel is 'gemv', it must be 'auto', "),
        (("--micro-kernel", "dpas", "--device", "tgllp"), "micro_kernel is 'dpas', and the device has no XMX"),
        (("--device", "tglpl"), "device 'tglpl' is unknown: use cl, skl, tgllp, "),
        (("--device", "cl", "--isa"), "--isa shows what ocloc builds, and for --device cl the driver does: "),
        (("--output", "/no/such/folder/x.cl"), "/no/such/folder/x.cl cannot be written: No such file or directory."),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(arguments: tuple[object, ...], says: str) -> None:
    done = show(*arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ov-moe: {says}")
    assert done.stderr.count("\n") == 1


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ov_moe.cli", "kernels", "show", *SMALL, *arguments]


def test_a_reader_that_leaves_ends_it_without_a_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(command(), stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("lines ")


def test_openvino_is_not_imported() -> None:
    code = f"import sys; from ov_moe.cli import app; app({command()[3:]!r}, standalone_mode=False)"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "ov_moe.kernel_show.app" in imported
    assert "openvino" not in imported


def test_every_device_of_the_build_check_is_known() -> None:
    assert set(ocloc.DEVICES) <= set(XMX_SUBGROUPS)


@installed
def test_devices_have_the_sub_groups_that_their_architecture_says() -> None:
    found = dict[str, int]()
    for name, subgroup in XMX_SUBGROUPS.items():
        done = subprocess.run(["ocloc", "ids", name], capture_output=True, text=True, check=False)
        version = re.search(r"\d+\.\d+\.\d+", done.stdout)
        if version and subgroup and done.returncode == 0:
            found[name] = xmx_subgroup([XMX], version[0])
    assert found
    assert found == {name: XMX_SUBGROUPS[name] for name in found}


def instructions(text: str, opcode: str) -> int:
    return len(re.findall(rf"^\S*\s*{opcode}\b", text, re.MULTILINE))


@installed
@pytest.mark.parametrize(("device", "opcode"), [("acm-g10", r"dpas\S*"), ("tgllp", "mad"), ("pvc", r"dpas\S*")])
def test_isa(device: str, opcode: str) -> None:
    done = show("--device", device, "--isa", "--stage", "down")
    assert done.exit_code == 0, done.stderr
    notes = said(done)
    assert instructions(done.stdout, opcode) > 0
    # The opcodes of the binary, counted without Intel's disassembler.
    assert f"{instructions(done.stdout, 'dpas.*')} dpas of " in notes["build"]
    assert "illegal" not in done.stdout
    assert notes["lines"] == str(len(done.stdout.splitlines()))


def with_path(folder: Path, *more: str) -> dict[str, str]:
    return {**os.environ, "PATH": os.pathsep.join([str(folder), *more])}


def refused(words: Sequence[str], environment: dict[str, str]) -> str:
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_isa_without_ocloc_is_one_sentence(tmp_path: Path) -> None:
    sentence = refused(command("--isa"), with_path(tmp_path))
    assert sentence.startswith("ov-moe: ocloc, Intel's offline OpenCL compiler, is not installed: ")


@installed
def test_isa_without_the_disassembler_is_one_sentence(tmp_path: Path) -> None:
    """An ocloc that leaves with success and writes nothing, as Debian's does without libiga64."""
    wrapper = tmp_path / "ocloc"
    wrapper.write_text(
        f'#!/bin/sh\n[ "$1" = disasm ] && echo "Warning: no iga." && exit 0\nexec {shutil.which("ocloc")} "$@"\n',
        encoding="utf-8",
    )
    wrapper.chmod(0o755)
    sentence = refused(command("--isa"), with_path(tmp_path, os.environ["PATH"]))
    assert "ocloc does not disassemble ov_moe_gate_up for acm-g10 (it says: Warning: no iga): " in sentence


@installed
def test_isa_of_a_device_that_this_ocloc_lacks_is_one_sentence() -> None:
    known = subprocess.run(["ocloc", "ids", "cri"], capture_output=True, text=True, check=False)
    if "Matched" in known.stdout:
        pytest.skip("this ocloc knows all devices of the table")
    assert "does not build for cri: " in refused(command("--isa", "--device", "cri"), dict(os.environ))
