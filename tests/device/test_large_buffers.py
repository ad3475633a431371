"""Indices beyond 2^32, in elements and in bytes, for each micro-kernel: only the pages that are touched cost memory.

In a process of its own, which gives everything back. Weights lie at the end of 4 GiB, rows of x, h and d behind 8 GiB.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TESTS = Path(__file__).parents[1]
SIZE = 512  # H and I
WEIGHTS = [(kernel, kind) for kernel in ("fma", "gemv", "dpas", "mma") for kind in ("u8", "u4")]
BEYOND = 2**32


@pytest.mark.parametrize(("kernel", "kind"), WEIGHTS)
def test_weights(kernel: str, kind: str) -> None:
    """The first and the last expert are in use; mma takes those of 4 bits packed."""
    run("weights", kernel, kind)


@pytest.mark.parametrize("kernel", ["fma", "gemv", "dpas"])
def test_activations(kernel: str) -> None:
    """x, h and d in f16; blocks with so many rows are never given to mma (``Mma.refuses``)."""
    run("activations", kernel)


def run(*arguments: str) -> None:
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, __file__, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, check=False, text=True, timeout=600)
    assert result.returncode == 0, (result.stdout[-500:], result.stderr[-2000:])
    last = result.stdout.splitlines()[-1]
    if last.startswith("too small: "):
        pytest.skip(last)
    assert last == "right"


class InPlace:
    """Launches on the default device; large buffers are where NumPy has them, and never copied."""

    def __init__(self, most: int) -> None:
        from ov_moe.devices.opencl import default_device

        self.device = default_device()
        if self.device.device.max_mem_alloc_size < most:
            print(
                f"too small: a buffer of {self.device.name} has {self.device.device.max_mem_alloc_size} bytes at most"
            )
            sys.exit()
        assert self.device.device.host_unified_memory

    def __call__(self, stage: Any, setting: Any, spec: Any, inputs: list[np.ndarray], output: np.ndarray) -> None:
        from ov_moe.kernels.compose import program
        from ov_moe.kernels.geometry import work_size

        cl, flags, device = self.device._cl, self.device._cl.mem_flags, self.device
        described = [(array.shape, array.dtype.name) for array in inputs]
        text = program(stage, setting, spec.attributes(), described, (output.shape, output.dtype.name))
        size = work_size(stage, setting, spec.sizes())
        use = flags.READ_WRITE | flags.USE_HOST_PTR
        buffers = [cl.Buffer(device._context, use, hostbuf=array) for array in [*inputs, output]]
        device._kernel(text, stage.entry, ())(device._queue, size.global_size, (size.local_size, 1, 1), *buffers)
        device._queue.finish()
        # The last bytes are enough to make the runtime show them to the host.
        cl.enqueue_copy(device._queue, output.reshape(-1)[-1:], buffers[-1], src_offset=output.nbytes - output.itemsize)


def setting_of(kernel: str, kind: str = "u8", schedule: str = "ticket") -> Any:
    from guard_pages import settings
    from kernel_cases import emulated

    chosen = settings(kernel, kind, schedule)[-1]  # mma: packed if it can be
    return emulated(chosen)


def weights(kernel: str, kind: Any) -> None:
    """The first and the last of so many experts that the last one lies behind 2^32 bytes."""
    import bounds
    from blocks import ABSENT, Block, packed_of, random_projection
    from micro_kernels import rounded

    from ov_moe.kernels.block import BlockSpec
    from ov_moe.kernels.stages import DOWN, GATE_UP

    rng, n = np.random.default_rng(), SIZE
    setting, bytes_of_expert = setting_of(kernel, kind), n * n // (2 if kind == "u4" else 1)
    experts = BEYOND // bytes_of_expert + 2
    launch = InPlace(experts * bytes_of_expert)
    packed = packed_of(setting)
    parts = [random_projection(rng, 2, n, n, kind, zero=True) for _ in range(3)]
    # gate, up and down are the same bytes, told apart by their scales and zero points.
    for index, part in enumerate(parts):
        part.arrays[0] = parts[0].arrays[0]
        parts[index] = with_dense(part)
    whole: list[np.ndarray] = []

    def spread(values: np.ndarray) -> np.ndarray:
        """[E, ...] of which the first and the last expert are written."""
        wide = np.zeros((experts, values.size // 2), values.dtype)
        wide[[0, -1]] = values.reshape(2, -1)
        return wide

    def stored(part: Any) -> list[np.ndarray]:
        values, *rest = part.inputs(packed)
        if not whole:
            whole.append(spread(values))
            assert whole[0].nbytes > BEYOND
        assert (whole[0][[0, -1]] == values.reshape(2, -1)).all()
        dims = [experts, *values.shape[1:], 1, 1][:4] if packed else [-1, n, values.shape[2], 1]
        return [whole[0].reshape(dims), *(spread(array) if array is not ABSENT else array for array in rest)]

    ids = np.array([[0, experts - 1], [experts - 1, 0], [experts - 1, -1]], np.int32)
    x, slots = rng.standard_normal((3, n)).astype(np.float16), rng.random((3, 2)).astype(np.float16)
    slots[2, 1] = np.nan
    spec = BlockSpec(experts, 2, 3, *(part.spec for part in parts))
    big = Block(spec, *parts, x, ids, slots)
    plan = big.plan(launch.device, setting)
    h, d = np.full((6, n), np.nan, np.float16), np.full((6, n), np.nan, np.float16)
    launch(GATE_UP, setting, spec, [x, plan, *stored(parts[0]), *stored(parts[1])], h)
    launch(DOWN, setting, spec, [h, plan, *stored(parts[2]), ABSENT], d)
    y = combined(spec, plan, d, slots)
    few = Block(BlockSpec(2, 2, 3, *(part.spec for part in parts)), *parts, x, np.where(ids > 0, 1, ids), slots)
    bounds.error(rounded(few) if kernel in ("dpas", "mma") else few, y).check()


def activations(kernel: str) -> None:
    """The rows of the only expert in use stand behind 2^32 elements of x, h and d: a plan that says so."""
    import bounds
    from blocks import ABSENT, random_block
    from micro_kernels import rounded

    from ov_moe.kernels.block import BlockSpec
    from ov_moe.kernels.plan import LIVE_ROWS, TILES, TOKENS
    from ov_moe.kernels.stages import COMBINE, DOWN, GATE_UP

    rng, n = np.random.default_rng(), SIZE
    setting, rows = setting_of(kernel), BEYOND // n + 3
    launch = InPlace(rows * n * 2)
    small = random_block(
        rng,
        tokens=3,
        experts=2,
        top_k=1,
        hidden=n,
        intermediate=n,
        precision="u8",
        zero=True,
        dtype=np.float16,
        ids=np.ones((3, 1), np.int32),
    )
    parts = [part.spec for part in (small.gate, small.up, small.down) if part is not None]
    spec = BlockSpec(2, 1, rows, *parts)
    layout = spec.plan_layout
    plan = np.zeros(layout.size, np.int32)
    plan[[TOKENS, LIVE_ROWS, TILES]] = 3, rows, -(-3 // setting.micro.tile_m)
    plan[layout.row_offset :][:3] = 0, rows - 3, rows  # expert 0 is said to have all other rows, and no tile
    plan[layout.tile_offset :][:3] = 0, 0, plan[TILES]
    plan[layout.pair_of_row :][:rows] = np.arange(rows)
    plan[layout.row_of_pair :][:3] = np.arange(rows - 3, rows)

    def sparse(last: np.ndarray | None = None) -> np.ndarray:
        wide = np.zeros((rows, n), np.float16)
        wide[-3:] = np.nan if last is None else last
        assert wide.size > BEYOND
        return wide

    h = sparse()
    launch(GATE_UP, setting, spec, [sparse(small.x), plan, *small.gate.arrays, *small.up.arrays], h)
    d = sparse()
    launch(DOWN, setting, spec, [h, plan, *small.down.arrays, ABSENT], d)
    y = np.full((3, n), np.nan, np.float16)
    launch(COMBINE, setting, replace(spec, max_tokens=rows), [d, plan, small.weights], y)
    bounds.error(rounded(small) if kernel == "dpas" else small, y).check()


def with_dense(part: Any) -> Any:
    from ov_moe import reference

    values, scale, zero = part.arrays
    return replace(part, dense=reference.dequantize(part.spec, values, scale, zero))


def combined(spec: Any, plan: np.ndarray, d: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """y in float64: combine reads no weights."""
    rows = spec.plan_layout.view(plan).row_of_pair.reshape(3, 2)
    y = np.zeros((3, d.shape[1]))
    for slot in range(2):
        live = rows[:, slot] >= 0
        y[live] += slots[live, slot, None].astype(np.float64) * d[rows[live, slot]]
    return y


if __name__ == "__main__":
    from ov_moe import virtual_gpu

    virtual_gpu.start()
    {"weights": weights, "activations": activations}[sys.argv[1]](*sys.argv[2:])
    print("right")
