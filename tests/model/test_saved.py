"""A rewritten model that was saved, read in a new process and compiled there: the same bits.

Each process starts afresh, because the GPU plugin replaces some of its own kernels in the background, which can
change the last bits of a whole language model: of that, only a process's first inference is compared.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from blocks_on_plugin import SMALL
from exported import EXACT

from ov_moe.demo import MODEL, PROMPT
from ov_moe.testing.graphs import moe_block_model

# One job: read; optimize; save; then compile, infer and save again, once for each run.
CHILD = """
import json, sys
from ov_moe import virtual_gpu
virtual_gpu.start()
import numpy as np, openvino as ov, ov_moe
from ov_moe.transformations.switches import balance_of

job = json.load(sys.stdin)
core = ov.Core()
ov_moe.register(core)
model = core.read_model(job["read"])
if "optimize" in job:
    assert ov_moe.optimize(model, **job["optimize"]).rewritten
if "save" in job:
    ov.save_model(model, job["save"], compress_to_fp16=False)
inputs, results, told = dict(np.load(job["inputs"])), {}, []
for index, run in enumerate(job["runs"]):
    virtual_gpu.reset()
    compiled = ov_moe.compile_model(core, model, run["device"], job["config"], **run.get("options", {}))
    results[str(index)] = compiled(inputs)[0]
    launches = virtual_gpu.snapshot().launches_of("ov_moe_gate_up")
    told.append(sorted({launch.last_groups for launch in launches.values()}))
    if "save" in run:
        ov.save_model(model, run["save"], compress_to_fp16=False)
np.savez(job["outputs"], **results)
print(json.dumps({"groups": told, "balance": balance_of(model)}))
"""


def work(folder: Path, **job: Any) -> tuple[list[np.ndarray], dict[str, Any]]:
    """A job in a process of its own: the result of each run, and what it told."""
    job["outputs"] = str(folder / "outputs.npz")
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(job, default=str), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with np.load(job["outputs"]) as results:
        return [results[str(index)] for index in range(len(job["runs"]))], json.loads(done.stdout.splitlines()[-1])


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


@pytest.mark.parametrize(
    ("precision", "balance"), [("u4", "on"), ("i4", "off"), (("i8", "u8", "f16"), "auto"), ("f4e2m1", "on")]
)
def test_blocks(tmp_path: Path, rng: np.random.Generator, precision: Any, balance: str) -> None:
    options = {**SMALL, "precision": precision, "blocks": 2, "topk_as_inputs": True}
    model, _ = moe_block_model(rng=rng, **options)
    ov.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    tokens = 33  # more than twice the room: the loop runs
    np.savez(
        tmp_path / "inputs.npz",
        x=rng.standard_normal((tokens, SMALL["hidden"])).astype(np.float32),
        ids=rng.integers(0, SMALL["experts"], (tokens, SMALL["top_k"])).astype(np.int32),
        weights=rng.random((tokens, SMALL["top_k"])).astype(np.float32),
    )
    shared = {"inputs": tmp_path / "inputs.npz", "config": {"INFERENCE_PRECISION_HINT": "f32"}}
    fused, compiled = tmp_path / "fused.xml", tmp_path / "compiled.xml"
    (gpu, cpu), told = work(
        tmp_path,
        read=tmp_path / "model.xml",
        optimize={"balance": balance, "max_tokens": 13},
        save=fused,
        runs=[{"device": "GPU", "save": compiled}, {"device": "CPU"}],
        **shared,
    )
    assert np.isfinite(gpu).all()
    assert np.ptp(gpu) > 0.1
    assert told["balance"] == balance
    here, built = fused.read_text(), compiled.read_text()
    assert set(re.findall(r' build="(\w+)"', here)) == {"none"}
    assert "none" not in re.findall(r' build="(\w+)"', built)

    groups = {"device": "GPU", "options": {"groups": 5}}
    stride = {"device": "GPU", "options": {"groups": 9, "fetch": "stride"}}
    for saved, runs in (
        (fused, [{"device": "CPU"}, {"device": "GPU"}, stride]),
        (compiled, [{"device": "CPU"}, groups]),
    ):
        results, told = work(tmp_path, read=saved, runs=runs, **shared)
        assert told["balance"] == balance
        assert same_bits(results[0], cpu)
        assert all(same_bits(result, gpu) for result in results[1:])
        if balance == "on":  # the file fixes no schedule: the pool has the groups that were asked for now
            assert told["groups"][-1] == [runs[-1]["options"]["groups"]]


def as_saved_before(path: Path) -> None:
    """Make a saved model what ov-moe wrote when every operation had the switch and the model none."""
    text, switches = re.subn(r"\s*<ov_moe>\s*<balance value=\"(\w+)\" />\s*</ov_moe>", "", path.read_text())
    balance = re.findall(r'<balance value="(\w+)"', path.read_text())[0]
    text, operations = re.subn(r'(type="MoE\w+"[^>]*>\s*<data [^>]*layer="[^"]*")', rf'\1 balance="{balance}"', text)
    assert (switches, operations) == (1, 8)
    path.write_text(text)


@pytest.mark.parametrize("balance", ["on", "off"])
def test_a_model_whose_operations_have_the_switch(tmp_path: Path, rng: np.random.Generator, balance: str) -> None:
    """As earlier versions saved it: the same bits and the same schedule on both devices, and it may be saved again."""
    model, _ = moe_block_model(rng=rng, **SMALL)
    ov.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    x = rng.standard_normal((1, 33, SMALL["hidden"])).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", x=x)
    shared = {"inputs": tmp_path / "inputs.npz", "config": {"INFERENCE_PRECISION_HINT": "f32"}}
    devices = [{"device": "GPU"}, {"device": "CPU"}]
    fused, again = tmp_path / "fused.xml", tmp_path / "again.xml"
    optimize = {"balance": balance, "max_tokens": 13}
    expected, told = work(tmp_path, read=tmp_path / "model.xml", optimize=optimize, save=fused, runs=devices, **shared)
    assert told["balance"] == balance
    as_saved_before(fused)
    for saved, copy in ((fused, again), (again, tmp_path / "third.xml")):
        results, found = work(tmp_path, read=saved, save=copy, runs=devices, **shared)
        assert found == told
        assert all(map(same_bits, results, expected))


@pytest.mark.parametrize("balance", ["on", "off"])
def test_the_cpu_follows_the_switch(tmp_path: Path, rng: np.random.Generator, balance: str) -> None:
    """A pool has the same groups for any prompt, a grid has one for every expert at least."""
    model, _ = moe_block_model(rng=rng, **SMALL)
    ov.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    np.savez(tmp_path / "inputs.npz", x=rng.standard_normal((1, 33, SMALL["hidden"])).astype(np.float32))
    _, told = work(
        tmp_path,
        read=tmp_path / "model.xml",
        optimize={"balance": balance, "max_tokens": 13},
        runs=[{"device": "CPU", "save": tmp_path / "compiled.xml"}],
        inputs=tmp_path / "inputs.npz",
        config={},
    )
    grid = balance == "off"
    assert told["groups"] == [[SMALL["experts"]]] if grid else told["groups"] != [[SMALL["experts"]]]
    assert set(re.findall(r' build="(\w+)"', (tmp_path / "compiled.xml").read_text())) == {balance}


@pytest.mark.parametrize("device", ["CPU", "GPU"])
def test_a_language_model(tmp_path: Path, device: str) -> None:
    length = len(PROMPT)
    np.savez(
        tmp_path / "inputs.npz",
        input_ids=np.array([PROMPT], np.int64),
        attention_mask=np.ones((1, length), np.int64),
        position_ids=np.arange(length, dtype=np.int64)[None],
        beam_idx=np.zeros(1, np.int32),
    )
    shared = {"inputs": tmp_path / "inputs.npz", "config": EXACT, "runs": [{"device": device}]}
    optimize = {"balance": "on", "max_tokens": 16}
    before, _ = work(tmp_path, read=MODEL / "openvino_model.xml", optimize=optimize, save=tmp_path / "f.xml", **shared)
    after, told = work(tmp_path, read=tmp_path / "f.xml", **shared)
    assert before[0].shape == (1, length, 256)
    assert np.isfinite(before[0]).all()
    assert same_bits(before[0], after[0])
    assert told["balance"] == "on"


def test_nothing_of_the_schedule_is_in_the_file(tmp_path: Path, rng: np.random.Generator) -> None:
    model, _ = moe_block_model(rng=rng, **SMALL)
    ov.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    np.savez(tmp_path / "inputs.npz", x=rng.standard_normal((1, 3, SMALL["hidden"])).astype(np.float32))
    work(
        tmp_path,
        read=tmp_path / "model.xml",
        optimize={"balance": "auto"},
        runs=[{"device": "GPU", "options": {"groups": 7}, "save": tmp_path / "compiled.xml"}],
        inputs=tmp_path / "inputs.npz",
        config={},
    )
    text = (tmp_path / "compiled.xml").read_text()
    layers = re.findall(r'type="MoE\w+"[^>]*>\s*<data ([^>]*)>', text)
    names = {name for layer in layers for name in re.findall(r'(\w+)="', layer)}
    assert re.findall(r'<balance value="(\w+)"', text) == ["auto"]  # once, the model's
    assert {"build", "layer", "experts", "max_tokens"} <= names
    assert not names & {"balance"}
    assert not names & {"groups", "schedule", "fetch", "tile_m", "tile_n", "tile_k", "local_size", "compute_units"}
