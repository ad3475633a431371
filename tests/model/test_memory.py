"""What a rewrite and a compiled model cost in memory: the weights stay where they are, and there is one copy."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from blocks_on_plugin import F32

import ov_moe
from ov_moe import virtual_gpu

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_large_model.py"
IR, BIN = "openvino_model.xml", "openvino_model.bin"
GIB = 1 << 30
# The large model, and beside it the same one rewritten.
DISK = 6 * GIB

# Reads, rewrites and saves a model; prints, for each of the last two, seconds and bytes: how far the process's peak
# rose above what it held before, and how much of memory that no file backs it holds more.
CHILD = """
import json, sys, time
import openvino as ov, ov_moe

def held(name):
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(name + ":"))

def measured(work):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    before, anonymous, start = held("VmRSS"), held("RssAnon"), time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    return result, {"seconds": seconds, "peak": held("VmHWM") - before, "anonymous": held("RssAnon") - anonymous}

source, target = sys.argv[1:]
core = ov.Core()
ov_moe.register(core)
ov_moe.optimize(ov.Model([ov.opset13.constant(0.0)], []))  # imports
model = core.read_model(source)
report, optimizing = measured(lambda: ov_moe.optimize(model))
_, saving = measured(lambda: ov.save_model(model, target, compress_to_fp16=False))
print(json.dumps({"blocks": len(report.rewritten), "optimizing": optimizing, "saving": saving}))
"""


def make(folder: Path, **options: int) -> Path:
    """A model by the script; returns its .xml."""
    flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    subprocess.run([sys.executable, SCRIPT, folder, *flags], check=True)
    return folder / IR


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk with room, emptied at the end."""
    free = shutil.disk_usage(tmp_path).free
    if free < DISK:
        pytest.skip(f"the large model needs {DISK / GIB:.0f} GiB of disk, {tmp_path} has {free / GIB:.1f}")
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_rewriting_2_gb_of_weights_moves_none_of_them(roomy: Path) -> None:
    source = make(roomy / "large")
    weights = 8 * 3 * 128 * 2048 * 768 // 2  # layers, projections, experts, hidden, intermediate
    size = source.with_suffix(".bin").stat().st_size
    assert 2 * GIB < weights < size
    done = subprocess.run(
        [sys.executable, "-c", CHILD, source, roomy / "rewritten.xml"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    print(f"{weights / 1e9:.2f} GB of 4-bit weights:", done.stdout)
    assert found["blocks"] == 8
    assert found["optimizing"]["seconds"] < 10
    assert found["optimizing"]["peak"] < 0.05 * weights
    assert found["optimizing"]["anonymous"] < 0.05 * weights
    # Saving reads the mapped file, which the system may drop at any time: only anonymous memory counts.
    assert found["saving"]["anonymous"] < 0.05 * weights
    saved = (roomy / "rewritten.bin").stat().st_size
    assert abs(saved - size) < 1e-3 * size


@dataclass(frozen=True)
class Sizes:
    """Of the model whose GPU memory is counted: 50 MB of weights against a few MB of buffers."""

    layers: int = 2
    experts: int = 32
    top_k: int = 4
    hidden: int = 1024
    intermediate: int = 512
    room: int = 32  # tokens

    def island(self) -> int:
        """Bytes of one island's f32 buffers: x and y [TM, H], h [TM k, I], d [TM k, H]."""
        rows = self.room * self.top_k
        return 4 * (2 * self.room * self.hidden + rows * (self.intermediate + self.hidden))

    def buffers(self) -> int:
        """Of the compiled model: the islands outside the loops share theirs, each loop has its own."""
        return (1 + self.layers) * self.island()

    def activations(self, tokens: int) -> int:
        """Of a prompt in chunks, for each block: x padded, in chunks, and results in chunks, cut and joined."""
        return self.layers * 8 * 4 * (tokens + self.room) * self.hidden


def live_bytes() -> int:
    """Alive on the virtual GPU, in buffers of any kind."""
    gc.collect()
    return sum(kind.live_bytes for kind in virtual_gpu.snapshot().allocations.values())


def test_a_compiled_model_holds_its_weights_once(tmp_path: Path, rng: np.random.Generator) -> None:
    sizes = Sizes()
    options = {name: getattr(sizes, name) for name in ("layers", "experts", "top_k", "hidden", "intermediate")}
    source = make(tmp_path / "model", **options)
    weights = source.with_suffix(".bin").stat().st_size
    core = ov.Core()
    model = core.read_model(source)
    assert len(ov_moe.optimize(model, max_tokens=sizes.room).rewritten) == sizes.layers

    before = live_bytes()
    compiled = ov_moe.compile_model(core, model, "GPU", F32)
    stated = weights + sizes.buffers()
    held = [live_bytes() - before]
    assert weights < held[0] < 1.1 * stated
    request = compiled.create_infer_request()
    for tokens in (1, sizes.room, 3 * sizes.room + 5):  # the last one runs the loop
        x = rng.standard_normal((1, tokens, sizes.hidden)).astype(np.float32)
        assert np.isfinite(request.infer(x)[0]).all()
        held.append(live_bytes() - before)
        assert held[-1] < 1.1 * (stated + sizes.activations(tokens))
    print(f"weights {weights / 1e6:.1f} MB, stated {stated / 1e6:.1f} MB, held {[f'{b / 1e6:.1f}' for b in held]} MB")
