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


@pytest.mark.parametrize("lengths", [[3, 0], [10**9], [1.5], ["a"], [True]])
def test_what_is_no_length_is_refused(compiled, lengths):
    sentence = f"prompt_lengths are {lengths}, each must be a whole number from 1 to 65536."
    with pytest.raises(ov_moe.InvalidInputError, match=re.escape(sentence)):
        ov_moe.warmup(compiled, lengths)


def test_a_length_of_numpy_is_one(compiled):
    assert ov_moe.warmup(compiled, np.array([1, 2]), progress=False) == 4


@pytest.mark.parametrize("lengths", [5, None])
def test_lengths_are_a_list(compiled, lengths):
    with pytest.raises(ov_moe.InvalidInputError, match=r"^prompt_lengths is of type \w+, it must be a list\.$"):
        ov_moe.warmup(compiled, lengths)


@pytest.mark.parametrize("model", [None, "x", ov.Model([], [])], ids=["None", "str", "Model"])
def test_only_a_compiled_model_is_warmed_up(model):
    with pytest.raises(
        ov_moe.InvalidInputError, match=r"^compiled is of type .*, it must be an openvino.CompiledModel"
    ):
        ov_moe.warmup(model)


def test_inputs_that_do_not_fit_are_refused(compiled):
    with pytest.raises(ov_moe.InvalidInputError, match=r"^An entry of inputs is of type int, it must be a mapping"):
        ov_moe.warmup(compiled, inputs=[5], progress=False)
    with pytest.raises(ov_moe.OvMoeError, match=r"^OpenVINO cannot run the model: [^\n]+$"):
        ov_moe.warmup(compiled, inputs=[{"no such input": np.ones(3)}], progress=False)


def test_a_model_that_is_no_language_model_needs_inputs():
    x = ov.opset13.parameter([-1, 2], ov.Type.f32)
    plain = ov.Core().compile_model(ov.Model([ov.opset13.relu(x)], [x]), "CPU")
    with pytest.raises(ov_moe.InvalidInputError, match="besides input_ids"):
        ov_moe.warmup(plain)
    assert ov_moe.warmup(plain, inputs=[{0: np.ones((3, 2), np.float32)}], progress=False) == 1  # type: ignore[dict-item]
