"""The table of activations against what is written beside it: functions in cl/, formulas of the oracle, bounds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ov_moe import reference
from ov_moe.kernels.activations import ACTIVATIONS

CL = Path(reference.__file__).parent / "cl"


def test_kernels_and_oracle_know_every_row_and_no_other() -> None:
    functions = re.findall(r"\bfloat act_(\w+)\(float gate\)", (CL / "activation.cl").read_text(encoding="utf-8"))
    assert sorted(set(functions)) == sorted(ACTIVATIONS) == sorted(reference.ACTS)


def test_no_two_rows_are_written_alike() -> None:
    written = [nodes for form in ACTIVATIONS.values() for nodes in form.written]
    assert len(set(written)) == len(written)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("limit", [0.0, 0.1, 7.0, 300.0])
@pytest.mark.parametrize("beta", [0.25, 1.0, 1.702])
def test_no_gate_up_to_the_limit_gives_more_than_the_largest(name: str, limit: float, beta: float) -> None:
    gate = limit - np.linspace(0, 50 / beta, 100001)
    found = np.abs(reference.ACTS[name](gate, beta)).max()
    assert found <= ACTIVATIONS[name].largest(limit, beta) * (1 + 1e-4)
