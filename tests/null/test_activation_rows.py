"""The table of activations against what is written beside it: functions in cl/, formulas of the oracle, bounds."""

from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from openvino import opset15 as ops

from ov_moe import reference
from ov_moe.kernels.activations import ACTIVATIONS
from ov_moe.testing.graphs import swap
from ov_moe.testing.misses_tiled import qwen3_model
from ov_moe.transformations import activation
from ov_moe.transformations.families import find_blocks

CL = Path(reference.__file__).parent / "cl"


def test_kernels_and_oracle_know_every_row_and_no_other() -> None:
    functions = re.findall(r"\bfloat act_(\w+)\(float gate\)", (CL / "activation.cl").read_text(encoding="utf-8"))
    assert sorted(set(functions)) == sorted(ACTIVATIONS) == sorted(reference.ACTS)


def test_no_row_is_written_as_another_begins() -> None:
    """The matcher takes the first that fits."""
    written = [nodes for form in ACTIVATIONS.values() for nodes in form.written]
    assert not any(other[: len(one)] == one for one, other in permutations(written, 2))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("limit", [0.0, 0.1, 7.0, 300.0])
@pytest.mark.parametrize("beta", [0.25, 1.0, 1.702])
def test_no_gate_up_to_the_limit_gives_more_than_the_largest(name: str, limit: float, beta: float) -> None:
    gate = limit - np.linspace(0, 50 / beta, 100001)
    found = np.abs(reference.ACTS[name](gate, beta)).max()
    assert found <= ACTIVATIONS[name].largest(limit, beta) * (1 + 1e-4)


@pytest.mark.parametrize(("exponent", "found"), [(2.0, True), (3.0, False), (2.000001, False)])
def test_a_row_of_several_nodes_is_read(exponent: float, found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is written so yet: the matcher gets one more row."""
    monkeypatch.setitem(activation._WRITTEN, ("Power 2", "Relu"), "squared")
    monkeypatch.setattr(activation, "_TYPES", activation._TYPES | {"Power"})
    model = qwen3_model()
    swap("swish", lambda i: ops.power(ops.relu(i[0]), np.full((1, 1, 1), exponent, np.float32)))(model)
    blocks, skipped = find_blocks(model)
    assert [block.activation.kind for block in blocks] == ["squared"] * found
    reason = "Power 'blocks.0/swish' stands where the activation of the gate should be one of Gelu, Power, Relu, Swish"
    assert [region.reason for region in skipped] == [reason] * (not found)
