"""Blocks whose h and d are beyond f16, in a model that the GPU plugin runs in f16: finite, and as near as f16 gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from blocks_on_plugin import F32, SMALL

import ov_moe
from ov_moe import virtual_gpu
from ov_moe.spec import Activation
from ov_moe.testing.block_weights import Form
from ov_moe.testing.graphs import moe_block_model

CASE = Path(__file__).parents[3] / "shared/cases/f16_h_overflow"
F16 = {"INFERENCE_PRECISION_HINT": "f16"}
# x and every weight are rounded to f16, and h, d and y: some ten roundings of 2^-11 each, of values that cancel.
LIMIT = 2.0**-7


def inputs(rng: np.random.Generator, tokens: int) -> list[np.ndarray]:
    """x of about 400, and so are gate and up; h is beyond 1e5, and top-k weights of 2^-10 bring y back to about 100."""
    ids = np.argsort(rng.random((tokens, SMALL["experts"])), axis=1)[:, : SMALL["top_k"]]
    x = 400 * rng.standard_normal((tokens, SMALL["hidden"]))
    weights = np.full(ids.shape, 2.0**-10)
    return [x.astype(np.float32), ids.astype(np.int32), weights.astype(np.float32)]


def compiled(model: ov.Model, device: str, config: dict[str, Any], **switches: Any) -> ov.CompiledModel:
    core = ov.Core()
    clone = model.clone()
    assert ov_moe.optimize(clone, max_tokens=16, few_tokens=8, **switches).rewritten
    return ov_moe.compile_model(core, clone, device, config)


@pytest.fixture(scope="module")
def model() -> ov.Model:
    return moe_block_model(rng=np.random.default_rng(11), precision="u4", topk_as_inputs=True, **SMALL)[0]


@pytest.mark.parametrize("factor", [None, 64.0])
def test_finite_with_and_without_the_plugins_factor(
    model: ov.Model, factor: float | None, rng: np.random.Generator
) -> None:
    """Up to 8 tokens take the decode island, 21 the loop; unfused it needs the factor."""
    config = F16 | ({} if factor is None else {"ACTIVATIONS_SCALE_FACTOR": factor})
    core = ov.Core()
    exact, unfused = core.compile_model(model, "CPU", F32), core.compile_model(model, "GPU", config)
    on, off = (compiled(model, "GPU", config, balance=balance) for balance in ("on", "off"))
    for tokens in (1, 5, 21):
        given = inputs(rng, tokens)
        expected = exact(given)[0].copy()
        found, reference = on(given)[0].copy(), unfused(given)[0]
        assert np.array_equal(found, off(given)[0])
        assert np.isfinite(reference).all() == (factor is not None), "the case tests nothing"
        assert np.abs(found - expected).max() <= LIMIT * np.abs(expected).max()


def test_the_words_of_the_plan_are_those_of_an_inference(model: ov.Model, rng: np.random.Generator) -> None:
    """A prompt beyond f16 leaves nothing behind for one that is not, and the other way round."""
    fused = compiled(model, "GPU", F16)
    large, small = inputs(rng, 5), inputs(rng, 5)
    small[0] = small[0] / 400
    first = fused(small)[0].copy()
    beyond = fused(large)[0].copy()
    assert np.array_equal(fused(small)[0], first)
    assert np.array_equal(fused(large)[0], beyond)
    assert np.isfinite(beyond).all()


def test_the_cpu_device(model: ov.Model, rng: np.random.Generator) -> None:
    """Some CPUs give f16 there too."""
    given = inputs(rng, 5)
    expected = ov.Core().compile_model(model, "CPU", F32)(given)[0].copy()
    found = compiled(model, "CPU", F16)(given)[0]
    assert np.abs(found - expected).max() <= LIMIT * np.abs(expected).max()


def test_the_report_says_what_is_kept_in_range() -> None:
    plain, _ = moe_block_model(rng=np.random.default_rng(1), **SMALL)
    clamped, _ = moe_block_model(
        rng=np.random.default_rng(1),
        form=Form(layout="interleaved", activation=Activation(beta=1.702, limit=7.0, up_offset=1.0)),
        **SMALL,
    )
    first, second = ov_moe.optimize(plain), ov_moe.optimize(clamped)
    assert [block.exponents for block in first.rewritten] == [("h", "d")]
    assert [block.exponents for block in second.rewritten] == [("d",)]
    assert "beyond f16, exponents keep its row in range: h of 1 MoE block and d of 1 MoE block" in str(first)
    assert second.to_dict()["rewritten"][0]["exponents"] == ("d",)


@pytest.mark.skipif(not CASE.with_suffix(".xml").exists(), reason="the recorded case is not beside this checkout")
@pytest.mark.parametrize("factor", [None, 64.0])
def test_the_recorded_case(factor: float | None) -> None:
    core, arrays = ov.Core(), np.load(CASE.with_suffix(".npz"))
    model = core.read_model(CASE.with_suffix(".xml"))
    config = F16 | ({} if factor is None else {"ACTIVATIONS_SCALE_FACTOR": factor})
    fused = compiled(model, "GPU", config)
    for times in (1, 4):
        given = [np.tile(arrays[name], (times, 1)) for name in ("x", "ids", "weights")]
        expected = np.tile(arrays["expected"], (times, 1))
        error = np.abs(fused(given)[0] - expected).max() / np.abs(expected).max()
        assert error <= LIMIT
    assert virtual_gpu.running()
