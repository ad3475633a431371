"""Warm-up: prompts and a decode step behind each, the state left empty."""

from __future__ import annotations

import re

import numpy as np
import openvino as ov
import pytest

import ov_moe
from ov_moe.demo import MODEL
from ov_moe.generate import Session


@pytest.fixture(scope="module")
def compiled() -> ov.CompiledModel:
    core = ov.Core()
    return core.compile_model(core.read_model(MODEL / "openvino_model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def test_it_runs_prompts_and_leaves_no_trace(compiled, capsys):
    tokens = np.arange(3, 12, dtype=np.int64)[None]
    before = Session(compiled).step(tokens)
    assert ov_moe.warmup(compiled, (1, 5)) == 4
    assert "Warming up" in capsys.readouterr().out
    np.testing.assert_array_equal(Session(compiled).step(tokens), before)


def test_without_a_bar_it_is_silent(compiled, capsys):
    ov_moe.warmup(compiled, (2,), progress=False)
    assert capsys.readouterr().out == ""


def test_a_length_below_one_is_refused(compiled):
    with pytest.raises(
        ov_moe.InvalidInputError, match=re.escape("prompt_lengths are [3, 0], each must be at least 1.")
    ):
        ov_moe.warmup(compiled, (3, 0))


def test_a_model_that_is_no_language_model_needs_inputs():
    x = ov.opset13.parameter([-1, 2], ov.Type.f32)
    plain = ov.Core().compile_model(ov.Model([ov.opset13.relu(x)], [x]), "CPU")
    with pytest.raises(ov_moe.InvalidInputError, match="besides input_ids"):
        ov_moe.warmup(plain)
    assert ov_moe.warmup(plain, inputs=[{0: np.ones((3, 2), np.float32)}], progress=False) == 1  # type: ignore[dict-item]
