"""Buffers that are slices of larger ones: offsets and pitches as the plugin may choose them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from blocks import Block, poison, random_block, same_bits
from kernel_cases import config

from ov_moe.devices.opencl import default_device
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.micro import Dpas, Gemv
from ov_moe.kernels.stages import COMBINE, DOWN, ROUTE


class Sliced:
    """Puts some buffers into larger ones full of poison: ``offset`` elements in, rows ``gap`` elements apart."""

    def __init__(self, gaps: dict[str, int], offset: int = 3) -> None:
        self.gaps, self.offset = gaps, offset
        self.view = np.empty(0)  # the last buffer's part that the kernel sees

    def __call__(
        self, text: str, inputs: list[np.ndarray], output: np.ndarray
    ) -> tuple[str, list[np.ndarray], np.ndarray]:
        names = [*(f"INPUT{i}" for i in range(len(inputs))), "OUTPUT0"]
        arrays = []
        for name, array in zip(names, [*inputs, output], strict=True):
            if name not in self.gaps:
                arrays.append(array.reshape(-1))
                continue
            rows = array.reshape(array.shape[0], -1)
            pitch = rows.shape[1] + self.gaps[name]
            large = np.full(self.offset + len(rows) * pitch + 5, poison(array.dtype), array.dtype)
            self.view = large[self.offset :][: len(rows) * pitch].reshape(-1, pitch)[:, : rows.shape[1]]
            self.view[...] = rows
            text, found = re.subn(rf"{name}_OFFSET 0", f"{name}_OFFSET {self.offset}", text)
            assert found == 1
            if self.gaps[name]:
                text, found = re.subn(rf"({name}_PITCHES \(size_t \[\]\)\{{) \d+,", rf"\1 {pitch},", text)
                assert found == 1
            arrays.append(large)
        return text, arrays[:-1], arrays[-1]


FORMATS: dict[str, dict[str, Any]] = {
    "f16": {"precision": "f16"},
    "u8": {"precision": "u8", "zero": True},
    "u4": {"precision": "u4", "zero": True, "group": 2},
    "f16 interleaved": {"precision": "f16", "layout": "interleaved", "biases": np.float16},
    "f4e2m1 in halves": {"precision": "f4e2m1", "group": 2, "layout": "halves", "biases": np.float32},
}


@pytest.fixture(params=FORMATS)
def block(request: pytest.FixtureRequest, rng: np.random.Generator) -> Block:
    """Slices of weights keep their rows together; zero points and 4-bit weights are offset by whole bytes."""
    sizes = {"tokens": 33, "experts": 5, "top_k": 2, "hidden": 34, "intermediate": 18, "max_tokens": 35}
    return random_block(rng, **sizes, **FORMATS[request.param])


def exact(found: np.ndarray, expected: np.ndarray) -> None:
    assert same_bits(found, expected)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    """Within two roundings to f16 of values of about one, and of poison where there was poison."""
    np.testing.assert_allclose(found, expected, rtol=2**-10, atol=2**-10, equal_nan=True)


def assert_slices_change_nothing(
    block: Block, setting: KernelConfig, offset: int, dtype: Any = np.float32, same: Callable[..., None] = exact
) -> None:
    device, spec = default_device(), block.spec
    dense = block.run_all(device, setting)
    plan, rows = dense.plan, spec.plan_layout.max_rows
    integer = block.gate.spec.group_size > 0
    weights = {0: 0, 1: 0, 2: 0} if block.gate.spec.zero_point else {0: 0, 1: 0} if integer else {0: 0}
    bias = {} if block.down_bias is None else {"INPUT5": 0}

    def run(stage, inputs, shape, gaps, dtype=dtype):
        sliced = Sliced(gaps, offset)
        result = block.run_stage(device, setting, stage, inputs, shape, dtype, arrange=sliced)
        if "OUTPUT0" not in gaps:
            return result.reshape(shape)
        written = sliced.view.copy()
        sliced.view[...] = np.nan
        assert np.isnan(result).all(), "written between the output's rows"
        return written

    ids = run(ROUTE, [block.ids], (spec.plan_layout.size, 1), {"INPUT0": 7}, np.int32)
    exact(ids.reshape(-1), plan)

    firsts = (2,) if block.up is None else (2, 5)
    ports = {f"INPUT{first + port}": gap for first in firsts for port, gap in weights.items()} | bias
    inputs = block.gate_up_inputs(plan)
    h = run(spec.gate_up_stage, inputs, (rows, spec.intermediate), {"INPUT0": 9, "OUTPUT0": 4, **ports})
    same(h, dense.h)

    ports = {f"INPUT{2 + port}": gap for port, gap in weights.items()} | bias
    d = run(DOWN, block.down_inputs(dense.h, plan), (rows, spec.hidden), {"INPUT0": 5, "OUTPUT0": 2, **ports})
    same(d, dense.d)

    gaps = {"INPUT0": 1, "INPUT2": 3, "OUTPUT0": 8}
    y = run(COMBINE, [dense.d, plan, block.weights], (spec.max_tokens, spec.hidden), gaps)
    exact(y, dense.y)


@pytest.mark.parametrize("schedule", ["grid", "ticket"])
def test_offsets_and_pitches_change_nothing(block: Block, schedule: str) -> None:
    assert_slices_change_nothing(block, config(schedule), 3)


WIDE_FORMATS: dict[str, dict[str, Any]] = {
    "f16": {"precision": "f16"},
    "u8": {"precision": "u8", "zero": True},
    "u4": {"precision": "u4", "zero": True, "group": 32},
    "f4e2m1 interleaved": {"precision": "f4e2m1", "group": 32, "layout": "interleaved", "biases": np.float16},
}
GEMV = config("ticket", micro=Gemv())
DPAS = {subgroup: config("grid", micro=Dpas.of(subgroup, emulation=True)) for subgroup in (8, 16)}


@pytest.mark.parametrize(
    ("kernel", "name", "offset", "same"),
    [
        (GEMV, "f16", 3, close),  # a value at a time in another order of sums
        (GEMV, "u8", 64, exact),
        (GEMV, "u4", 3, close),
        (GEMV, "f4e2m1 interleaved", 64, exact),
        (DPAS[8], "u8", 3, exact),
        (DPAS[8], "f16", 64, exact),
        (DPAS[16], "u4", 3, exact),
        (DPAS[16], "f4e2m1 interleaved", 3, exact),
    ],
    ids=[
        "gemv-f16-3",
        "gemv-u8-64",
        "gemv-u4-3",
        "gemv-f4-64",
        "dpas8-u8-3",
        "dpas8-f16-64",
        "dpas16-u4-3",
        "dpas16-f4-3",
    ],
)
def test_kernels_that_load_16_bytes_at_a_time(
    kernel: KernelConfig, name: str, offset: int, same: Callable[..., None], rng: np.random.Generator
) -> None:
    """Whole loads fit the sizes: an offset of 64 keeps them, one of 3 does not."""
    sizes = {"tokens": 13, "experts": 3, "top_k": 2, "hidden": 64, "intermediate": 32, "max_tokens": 15}
    block = random_block(rng, dtype=np.float16, **sizes, **WIDE_FORMATS[name])
    assert_slices_change_nothing(block, kernel, offset, np.float16, same)
