"""``evaluate``: a stage on the host, with the kernels or in NumPy, for all weight formats."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import bounds
import numpy as np
import pytest
from blocks import Block, poison, random_block, same_bits
from kernel_cases import ACTIVATIONS, FORMATS, FUSED, ROUTINGS, SIZES, Case

from ov_moe.devices import opencl
from ov_moe.errors import DeviceError, InvalidInputError
from ov_moe.kernels.stages import COMBINE, DOWN, ROUTE, Stage
from ov_moe.ops import evaluate
from ov_moe.ops.evaluate import EVALUATE_VARIABLE, evaluate_stage, evaluation_device

SMALL = [case for case in SIZES + ROUTINGS if case.T <= 100 and case.E <= 128]


@pytest.fixture(autouse=True)
def fresh_choice() -> Iterator[None]:
    """The device is chosen once a process: forget it before and after each test."""
    evaluation_device.cache_clear()
    yield
    evaluation_device.cache_clear()


def evaluate_block(block: Block, balance: str = "auto") -> np.ndarray:
    """y [TM, H] of the four stages, each on read-only inputs as constants are, NaN where nothing was written."""
    spec, dtype = block.spec, block.x.dtype

    def run(stage: Stage, inputs: list[np.ndarray], shape: tuple[int, int], kind: Any) -> np.ndarray:
        output = np.full((*shape, 1, 1), poison(kind), kind)
        frozen = [array.reshape((*array.shape, 1, 1)[:4]) for array in inputs]
        for array in frozen:
            array.flags.writeable = False
        evaluate_stage(stage, spec, frozen, output, balance)
        return output.reshape(shape)

    plan = run(ROUTE, [block.ids], (spec.plan_layout.size, 1), np.int32)
    rows = spec.plan_layout.max_rows
    h = run(spec.gate_up_stage, block.gate_up_inputs(plan), (rows, spec.intermediate), dtype)
    d = run(DOWN, block.down_inputs(h, plan), (rows, spec.hidden), dtype)
    return run(COMBINE, [d, plan, block.weights], (spec.max_tokens, spec.hidden), dtype)


@pytest.mark.parametrize("case", SMALL + FORMATS + FUSED + ACTIVATIONS, ids=str)
def test_numpy_stages_match_the_oracle(case: Case, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy computes in float64 and rounds h, d and y: within the same bound, and absent tokens stay as they were."""
    monkeypatch.setenv(EVALUATE_VARIABLE, "numpy")
    block = case.block(rng)
    y = evaluate_block(block)
    bounds.error(block, y).check()
    absent = y[block.spec.plan_layout.view(evaluate_plan(block)).tokens :]
    assert same_bits(absent, np.full_like(absent, np.nan))


def evaluate_plan(block: Block) -> np.ndarray:
    plan = np.zeros(block.spec.plan_layout.size, np.int32)
    evaluate_stage(ROUTE, block.spec, [block.ids], plan)
    return plan


@pytest.mark.parametrize("balance", ["auto", "on", "off"])
def test_kernels_match_the_oracle(balance: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EVALUATE_VARIABLE, "opencl")
    block = random_block(rng, tokens=33, experts=64, top_k=2, hidden=34, intermediate=18, precision="u4", zero=True)
    bounds.error(block, evaluate_block(block, balance)).check()


def test_numpy_rounds_once_in_f16(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Combine sums its slots before it rounds: one rounding of y, not one for each slot."""
    monkeypatch.setenv(EVALUATE_VARIABLE, "numpy")
    block = random_block(rng, tokens=100, experts=10, top_k=10, hidden=40, intermediate=2, dtype=np.float16)
    plan = evaluate_plan(block)
    d = rng.standard_normal((1000, 40)).astype(np.float16)
    y = np.zeros((100, 40), np.float16)
    evaluate_stage(COMBINE, block.spec, [d, plan, block.weights], y)
    rows = block.spec.plan_layout.view(plan).row_of_pair.reshape(100, 10)
    exact = np.einsum("ts,tsh->th", block.weights.astype(np.float64), d[rows].astype(np.float64))
    # Half an ulp of y, of which there are 2^10 between two powers of two, and float64's own noise.
    assert (np.abs(y - exact) <= np.spacing(np.abs(y)).astype(np.float64) / 2 + 1e-12).all()


@pytest.mark.parametrize("where", ["opencl", "numpy"])
@pytest.mark.parametrize(("wrong", "token", "slot"), [(8, 4, 1), (-3, 0, 0), (2**31 - 1, 32, 1)])
def test_an_id_out_of_range_is_refused(
    where: str, wrong: int, token: int, slot: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EVALUATE_VARIABLE, where)
    block = random_block(rng, tokens=33, experts=8, top_k=2)
    block.ids[token, slot] = wrong
    with pytest.raises(InvalidInputError) as caught:
        evaluate_block(block)
    assert str(caught.value) == (
        f"top-k id {wrong} of token {token}, slot {slot} is out of range: it must be -1 (padding) or 0 to 7."
    )


def test_a_plan_with_an_invalid_row_gives_nan_in_numpy_too(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Combine sees only the plan: what Route marked as out of range is loud everywhere."""
    monkeypatch.setenv(EVALUATE_VARIABLE, "numpy")
    block = random_block(rng, tokens=5, experts=8, top_k=2, hidden=6)
    plan = evaluate_plan(block)
    plan[block.spec.plan_layout.row_of_pair + 2 * 2] = -3
    y = np.zeros((5, 6), np.float32)
    d = rng.standard_normal((10, 6)).astype(np.float32)
    evaluate_stage(COMBINE, block.spec, [d, plan, block.weights], y)
    assert np.isnan(y[2]).all()
    assert not np.isnan(y[[0, 1, 3, 4]]).any()


def no_device() -> None:
    raise DeviceError("No device, says the test.")


def test_opencl_is_taken_where_there_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EVALUATE_VARIABLE, raising=False)
    assert evaluation_device() is opencl.default_device()


def test_numpy_is_the_last_resort_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(EVALUATE_VARIABLE, raising=False)
    monkeypatch.setattr(evaluate, "default_device", no_device)
    with caplog.at_level(logging.WARNING, "ov_moe"):
        assert evaluation_device() is None
        assert evaluation_device() is None
    assert caplog.messages == ["MoE blocks on the CPU are computed in NumPy: No device, says the test."]


def test_opencl_by_wish_needs_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EVALUATE_VARIABLE, "opencl")
    monkeypatch.setattr(evaluate, "default_device", no_device)
    with pytest.raises(DeviceError, match=r"No device, says the test"):
        evaluation_device()


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EVALUATE_VARIABLE, "torch")
    with pytest.raises(InvalidInputError) as caught:
        evaluation_device()
    assert str(caught.value) == "OV_MOE_EVALUATE: evaluate is 'torch', it must be 'auto', 'opencl' or 'numpy'."
