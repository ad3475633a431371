"""The toy micro-kernel in a copy of the tree."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from blocks import random_block
from exported import EXACT
from micro_kernels import assert_same, check_results
from typer.testing import CliRunner

import ov_moe
from ov_moe.compiler import prepare
from ov_moe.devices.opencl import default_device
from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench import app
from ov_moe.kernels.choose import choose_model_config
from ov_moe.options import Config
from ov_moe.spec import Switches, Workload
from ov_moe.testing.families import PRECISIONS, example

TREE = Path(ov_moe.__file__).parents[1]
SIZES = {
    "few tokens": {"tokens": 2, "experts": 8, "top_k": 2, "hidden": 64, "intermediate": 34, "precision": "u4"},
    "odd sizes, gate and up in one": {
        "tokens": 33,
        "experts": 5,
        "top_k": 3,
        "hidden": 47,
        "intermediate": 65,
        "precision": ("u8", "i8"),
        "zero": True,
        "layout": "halves",
    },
    "groups, rows with exponents": {
        "tokens": 20,
        "experts": 4,
        "top_k": 1,
        "hidden": 96,
        "intermediate": 160,
        "precision": "f4e2m1",
        "group": 32,
        "half": True,
        "exponents": True,
    },
}


def words() -> None:
    """It is a word of the option, and the build check builds it in every schedule: few tokens have that of a pool."""
    assert Config(micro_kernel="naive").micro_kernel == "naive"
    with pytest.raises(InvalidInputError, match="'naive'"):
        Config(micro_kernel="naiv")
    spec = importlib.util.spec_from_file_location("check_intel_builds", TREE / "scripts" / "check_intel_builds.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    named = {variant.name for variant in script.variants() if variant.config.micro.name == "naive"}
    assert {name.split(" naive")[0].split()[-1] for name in named} == {"grid", "ticket", "stride"}


def kernels() -> None:
    """Chosen by its word it gives the oracle's results, and the same bits in both schedules."""
    rng, device = np.random.default_rng(1), default_device()
    for options in SIZES.values():
        dtype = np.float16 if options.pop("half", False) else np.float32
        block = random_block(rng, **options, max_tokens=options["tokens"] + 1, dtype=dtype)
        sizes = block.spec.sizes()
        workload = Workload(sizes.pop("max_tokens"), **sizes)
        results = []
        for balance in ("off", "on"):
            switches = Switches(balance, groups=7, micro_kernel="naive")
            config = choose_model_config(workload, workload, device.info, switches).prefill
            assert config.micro.name == "naive"
            results.append(block.run_all(device, config))
            check_results(block, results[-1])
        assert_same(*results)


def bench() -> None:
    """The benchmark takes it by name, with its fields, and checks it."""
    small = "--shape 64/32/8/2 --tokens 4 --distribution uniform --schedule grid,pool-ticket --flush-mib 1 --repeats 2"
    settings = ("--set", "micro_kernel=naive", "--set", "tile_m=2")
    done = CliRunner().invoke(app, [*small.split(), *settings])
    assert done.exit_code == 0, done.output
    wrong = CliRunner().invoke(app, [*small.split(), *settings, "--set", "tile_k=4"])
    assert wrong.exit_code == 1
    assert "naive has a multiple of 64 columns" in wrong.output


def plugin() -> None:
    """A model compiled with its word runs it on the GPU plugin, for few tokens and for many."""
    rng, core = np.random.default_rng(4), ov.Core()
    made = example("Qwen3-MoE", rng, **PRECISIONS["u4"])
    assert len(ov_moe.optimize(made.model, max_tokens=16, few_tokens=4).rewritten) == 1
    layers = Path(prepare(core, made.model, "GPU", EXACT, micro_kernel="naive")["CONFIG_FILE"])
    text = layers.read_text(encoding="utf-8")
    assert (text.count("tile_naive.cl"), text.count("tile_fma.cl"), text.count("tile_gemv.cl")) == (4, 0, 0)
    compiled = ov_moe.compile_model(core, made.model, "GPU", EXACT, micro_kernel="naive")
    for length in (2, 21):
        x = made.tokens(rng, 1, length)
        oracle = made.oracle(x)
        assert np.abs(compiled(x)[0] - oracle).max() < 5e-6 * np.abs(oracle).max()
