"""Rows of h and d beyond f16: right where plain ones would be infinite, the same bits where nothing is beyond."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bounds
import numpy as np
import pytest
from blocks import Block, Projection, random_block, same_bits
from kernel_cases import GPT_OSS, config
from micro_kernels import assert_same, rounded

from ov_moe.devices.opencl import default_device
from ov_moe.kernels.exponents import may_exceed_f16, row_columns
from ov_moe.kernels.micro import Dpas, Gemv
from ov_moe.kernels.plan import D_WIDE, H_WIDE
from ov_moe.kernels.stages import COMBINE, DOWN, ROUTE
from ov_moe.spec import Activation

MICRO_KERNELS = {
    "fma": config("ticket"),
    "gemv": config("ticket", micro=Gemv()),
    "dpas8": config("ticket", micro=Dpas.of(8, emulation=True)),
    "dpas16": config("ticket", micro=Dpas.of(16, emulation=True)),
}
SIZES: dict[str, Any] = {"tokens": 45, "experts": 6, "top_k": 2, "max_tokens": 50, "dtype": np.float16}
FORMATS: dict[str, dict[str, Any]] = {
    "f16, no size divides a tile": {"precision": "f16", "hidden": 130, "intermediate": 99},
    "u4": {"precision": "u4", "group": 32, "zero": True, "hidden": 192, "intermediate": 160},
    "f4e2m1 interleaved, biases": {
        "precision": "f4e2m1",
        "group": 32,
        "hidden": 96,
        "intermediate": 64,
        "layout": "interleaved",
        "biases": np.float16,
    },
}


def amplified(part: Projection, experts: slice, power: int) -> Projection:
    """A projection with some experts' weights times 2^power."""
    values, scale, zero = (array.copy() for array in part.arrays)
    dense = part.dense.copy()
    dense[experts] = np.ldexp(dense[experts], power)
    if part.spec.precision == "f4e2m1":
        scale[experts] = scale[experts].astype(int) + power
    elif part.spec.group_size:
        by_expert = scale.reshape(dense.shape[0], -1)
        by_expert[experts] = np.ldexp(by_expert[experts], power)
    else:
        values[experts] = np.ldexp(values[experts], power)
    return replace(part, arrays=[values, scale, zero], dense=dense)


def beyond_f16(rng: np.random.Generator, h_power: int = 10, down_power: int = 0, **form: Any) -> Block:
    """A block whose odd experts have h, and d, beyond f16 in many rows, and top-k weights that bring y back."""
    block = random_block(rng, exponents=True, **{**SIZES, **form})
    odd = slice(1, None, 2)
    up = None if block.up is None else amplified(block.up, odd, h_power)
    weights = block.weights * np.float16(2.0**-12)
    gate, down = amplified(block.gate, odd, h_power), amplified(block.down, odd, down_power)
    return replace(block, gate=gate, up=up, down=down, weights=weights)


def plain(block: Block) -> Block:
    """The same block, its rows without exponents."""
    return replace(block, spec=replace(block.spec, h_exponents=False, d_exponents=False))


# Every micro-kernel, every form of rows that it loads.
PAIRED = pytest.mark.parametrize(
    ("kernel", "form"),
    [
        ("fma", "f16, no size divides a tile"),
        ("fma", "f4e2m1 interleaved, biases"),
        ("gemv", "u4"),
        ("gemv", "f16, no size divides a tile"),
        ("dpas8", "f16, no size divides a tile"),
        ("dpas16", "u4"),
    ],
)


@PAIRED
def test_values_beyond_f16(form: str, kernel: str, rng: np.random.Generator) -> None:
    block = beyond_f16(rng, **FORMATS[form])
    setting = MICRO_KERNELS[kernel]
    results = block.run_all(default_device(), setting)
    assert results.plan[H_WIDE] == results.plan[D_WIDE] == 1
    assert np.isfinite(results.y[:45]).all()
    bounds.error(rounded(block) if kernel.startswith("dpas") else block, results.y).check()
    assert not np.isfinite(plain(block).run(default_device(), setting)[:45]).all(), "it would have fitted f16"


@pytest.mark.parametrize("kernel", ["fma", "gemv", "dpas8"])
def test_schedules_agree_bit_for_bit(kernel: str, rng: np.random.Generator) -> None:
    block = beyond_f16(rng, **FORMATS["u4"])
    expected = block.run_all(default_device(), replace(MICRO_KERNELS[kernel], schedule="grid"))
    for fetch, groups in (("ticket", 7), ("stride", 400)):
        setting = replace(MICRO_KERNELS[kernel], fetch=fetch, groups=groups)
        assert_same(block.run_all(default_device(), setting), expected)


@pytest.mark.parametrize("kernel", ["fma", "gemv", "dpas8"])
def test_a_row_does_not_depend_on_its_neighbours(kernel: str, rng: np.random.Generator) -> None:
    block = beyond_f16(rng, **FORMATS["u4"])
    order = rng.permutation(45)
    moved = replace(block, x=block.x.copy(), ids=block.ids.copy(), weights=block.weights.copy())
    for now, before in ((moved.x, block.x), (moved.ids, block.ids), (moved.weights, block.weights)):
        now[:45] = before[order]
    setting = MICRO_KERNELS[kernel]
    expected = block.run(default_device(), setting)[order]
    assert same_bits(moved.run(default_device(), setting)[:45], expected)


@PAIRED
def test_nothing_beyond_f16_is_the_same_bits_as_without_exponents(
    form: str, kernel: str, rng: np.random.Generator
) -> None:
    block = random_block(rng, exponents=True, **{**SIZES, **FORMATS[form]})
    setting = MICRO_KERNELS[kernel]
    found, expected = block.run_all(default_device(), setting), plain(block).run_all(default_device(), setting)
    spec, live = block.spec, found.plan[1]
    assert found.plan[H_WIDE] == found.plan[D_WIDE] == 0
    assert same_bits(found.h[:, : spec.intermediate], expected.h)
    assert same_bits(found.d[:, : spec.hidden], expected.d)
    assert same_bits(found.y, expected.y)
    blocks = -(-spec.intermediate // (setting.micro.tile_n // 2))
    assert not found.h[:live, spec.intermediate : spec.intermediate + blocks].any()
    assert np.isnan(found.h[:live, spec.intermediate + blocks :]).all(), "written behind the exponents"


@pytest.mark.parametrize("kernel", ["fma", "gemv", "dpas8"])
def test_what_is_no_number_stays_so(kernel: str, rng: np.random.Generator) -> None:
    """NaN and infinity are no overflow: a row with one shows it, the others are as they were."""
    block = beyond_f16(rng, **FORMATS["u4"])
    expected = block.run(default_device(), MICRO_KERNELS[kernel])
    block.x[3, 5], block.x[7, 9] = np.nan, np.inf
    y = block.run(default_device(), MICRO_KERNELS[kernel])
    assert np.isnan(y[3]).all()
    assert not np.isfinite(y[7]).any()
    others = np.setdiff1d(np.arange(45), [3, 7])
    assert same_bits(y[others], expected[others])


@pytest.mark.parametrize("powers", [(10, 4), (14, -14), (10, -10), (30, -40)], ids=str)
def test_far_beyond_f16(powers: tuple[int, int], rng: np.random.Generator) -> None:
    """h up to 2^60, in weights of f4e2m1, whose scales reach so far; d is beyond, or h alone."""
    block = beyond_f16(rng, *powers, **{**FORMATS["f4e2m1 interleaved, biases"], "layout": "separate", "biases": None})
    scale = 2.0 ** -min(max(2 * powers[0] + powers[1] - 10, 0), 24)
    block = replace(block, weights=(block.weights * np.float16(2.0**12) * np.float16(scale)).astype(np.float16))
    for kernel in ("fma", "gemv"):
        results = block.run_all(default_device(), MICRO_KERNELS[kernel])
        assert results.plan[H_WIDE] == 1
        bounds.error(block, results.y).check()


@pytest.mark.parametrize("how", ["numpy", "opencl"])
def test_the_cpu_path_in_f16(how: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    from ov_moe.ops.evaluate import EVALUATE_VARIABLE, evaluate_stage, evaluation_device

    block = beyond_f16(rng, **FORMATS["u4"])
    spec = block.spec
    monkeypatch.setenv(EVALUATE_VARIABLE, how)
    evaluation_device.cache_clear()

    def run(stage: Any, inputs: list[np.ndarray], shape: tuple[int, int], dtype: Any = np.float16) -> np.ndarray:
        output = np.full(shape, np.nan if dtype == np.float16 else -7, dtype)
        evaluate_stage(stage, spec, inputs, output, "on")
        return output

    plan = run(ROUTE, [block.ids], (spec.plan_layout.size, 1), np.int32)
    rows = spec.plan_layout.max_rows
    h = run(spec.gate_up_stage, block.gate_up_inputs(plan), (rows, spec.h_columns))
    d = run(DOWN, block.down_inputs(h, plan), (rows, spec.d_columns))
    y = run(COMBINE, [d, plan, block.weights], (spec.max_tokens, spec.hidden))
    evaluation_device.cache_clear()
    bounds.error(block, y).check()


def test_which_blocks_may_exceed_f16() -> None:
    assert may_exceed_f16(Activation())
    assert not may_exceed_f16(GPT_OSS)
    assert may_exceed_f16(replace(GPT_OSS, limit=300.0))
    assert may_exceed_f16(replace(GPT_OSS, beta=-1.0)), "a swish of a negative slope grows below zero"
    assert not may_exceed_f16(Activation("geglu_erf", limit=100.0))


def test_the_columns_of_a_row() -> None:
    assert [row_columns(columns, True) for columns in (1, 768, 1024, 1056, 2880)] == [33, 800, 1056, 1120, 2976]
    assert row_columns(768, False) == 768
