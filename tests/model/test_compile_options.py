"""The OV_MOE_* variables reach the functions that a program calls; explicit arguments come before them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from blocks_on_plugin import SMALL

import ov_moe
import ov_moe.genai
from ov_moe import virtual_gpu
from ov_moe.compiler import prepare
from ov_moe.demo import MODEL
from ov_moe.testing.graphs import moe_block_model
from ov_moe.transformations.operations import moe_operations
from ov_moe.transformations.switches import balance_of

VARIABLES = {
    "OV_MOE_BALANCE": "on",
    "OV_MOE_MAX_TOKENS": "24",
    "OV_MOE_FEW_TOKENS": "3",
    "OV_MOE_FETCH": "stride",
    "OV_MOE_GROUPS": "7",
}


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def a_block() -> ov.Model:
    return moe_block_model(rng=np.random.default_rng(0), topk_as_inputs=True, **SMALL)[0]


def rooms(model: ov.Model) -> set[tuple[str, int]]:
    """(balance, tokens) of all operations."""
    attributes = [node.get_attributes() for node in moe_operations(model)]
    return {(balance_of(model), int(each["max_tokens"])) for each in attributes}


def test_optimize(variables):
    model = a_block()
    report = ov_moe.optimize(model)
    assert (report.balance, report.max_tokens) == ("on", 24)
    assert rooms(model) == {("on", 24), ("on", 3)}


def test_arguments_of_optimize_come_first(variables):
    model = a_block()
    report = ov_moe.optimize(model, "off", max_tokens=10, few_tokens=2)
    assert (report.balance, report.max_tokens) == ("off", 10)
    assert rooms(model) == {("off", 10), ("off", 2)}


def test_a_folder(variables, tmp_path):
    """In the process of its own that writes it, too."""
    report = ov_moe.genai.optimize(MODEL, tmp_path / "by variables")
    assert (report.balance, report.max_tokens) == ("on", 24)
    report = ov_moe.genai.optimize(MODEL, tmp_path / "by arguments", "off", max_tokens=10, few_tokens=2)
    assert (report.balance, report.max_tokens) == ("off", 10)
    core = ov.Core()
    ov_moe.register(core)
    found = [
        rooms(core.read_model(tmp_path / name / "openvino_model.xml")) for name in ("by variables", "by arguments")
    ]
    assert found == [{("on", 24), ("on", 3)}, {("off", 10), ("off", 2)}]


def layers(**options) -> str:
    """The custom-layer file for a GPU."""
    core, model = ov.Core(), a_block()
    ov_moe.optimize(model, "on", max_tokens=16, few_tokens=4)
    return Path(prepare(core, model, "GPU", **options)["CONFIG_FILE"]).read_text(encoding="utf-8")


def test_the_kernels(monkeypatch):
    expected = {
        (fetch, groups): layers(fetch=fetch, groups=groups) for fetch in ("ticket", "stride") for groups in (5, 7)
    }
    assert len(set(expected.values())) == len(expected)
    monkeypatch.setenv("OV_MOE_FETCH", "stride")
    monkeypatch.setenv("OV_MOE_GROUPS", "7")
    assert layers() == expected["stride", 7]
    assert layers(fetch="ticket", groups=5) == expected["ticket", 5]
    assert layers(groups=5) == expected["stride", 5]


def test_a_compiled_model_launches_the_groups_of_the_variable(variables):
    core, model = ov.Core(), a_block()
    ov_moe.optimize(model)
    compiled = ov_moe.compile_model(core, model, "GPU")
    rng, tokens = np.random.default_rng(1), 9  # more than OV_MOE_FEW_TOKENS: in the loop
    virtual_gpu.reset()
    compiled(
        {
            "x": rng.standard_normal((tokens, SMALL["hidden"])).astype(np.float32),
            "ids": rng.integers(0, SMALL["experts"], (tokens, SMALL["top_k"])).astype(np.int32),
            "weights": rng.random((tokens, SMALL["top_k"])).astype(np.float32),
        }
    )
    launch = virtual_gpu.snapshot().launches["ov_moe_gate_up"]
    assert launch.count == 2  # for few tokens, of which there are none now, and in the loop
    assert launch.groups == 2 * int(VARIABLES["OV_MOE_GROUPS"])


def test_a_variable_that_makes_no_sense_is_named(monkeypatch):
    model = a_block()
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    monkeypatch.setenv("OV_MOE_BALANCE", "yes")
    sentence = "OV_MOE_BALANCE: balance is 'yes', it must be 'auto', 'on' or 'off'."
    with pytest.raises(ov_moe.InvalidInputError, match=re.escape(sentence)):
        ov_moe.optimize(model)
    assert [node.get_type_name() for node in model.get_ordered_ops()] == kinds
    ov_moe.optimize(model, "on", max_tokens=16, few_tokens=4)
    monkeypatch.setenv("OV_MOE_BALANCE", "on")
    monkeypatch.setenv("OV_MOE_GROUPS", "many")
    with pytest.raises(ov_moe.InvalidInputError, match="OV_MOE_GROUPS is 'many', it must be a whole number"):
        ov_moe.compile_model(ov.Core(), model, "GPU")
