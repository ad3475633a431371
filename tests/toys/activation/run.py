"""The toy activation, relu(gate)^2 * (up + offset), in a copy of the tree.

A model with it is found, rewritten, saved, read and run: in NumPy, by the kernels, and on the GPU plugin.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
from exported import EXACT
from openvino import opset15 as ops

import ov_moe
from ov_moe.kernels.exponents import may_exceed_f16
from ov_moe.ops.evaluate import EVALUATE_VARIABLE, evaluation_device
from ov_moe.spec import Activation
from ov_moe.testing.edits import swap
from ov_moe.testing.families import Example, example
from ov_moe.transformations.families import find_blocks
from ov_moe.transformations.operations import moe_operations

# The form, and where it runs.
RUNS = (
    ("ReGLU", "CPU", "numpy"),
    ("clamps with three GEMMs", "CPU", "numpy"),
    ("clamps with three GEMMs", "CPU", "opencl"),
    ("GPT-OSS", "GPU", "numpy"),
)


def toy(family: str) -> tuple[Example, Activation]:
    """A model of the form with ReLU and a square in place of its activation, and what that is then."""
    made = example(family, np.random.default_rng(3), precision="u4", hidden=96, intermediate=160, group_size=32)
    swap("swish", lambda i: ops.power(ops.relu(i[0]), np.full((1, 1, 1), 2, np.float32)))(made.model)
    (weights,) = made.weights
    activation = Activation("relu2glu", 1.0, weights.form.activation.limit, weights.form.activation.up_offset)
    return replace(made, weights=[replace(weights, form=replace(weights.form, activation=activation))]), activation


def plugin() -> None:
    """Every run against the float64 oracle and against the plain model."""
    core = ov.Core()
    ov_moe.register(core)
    for family, device, how in RUNS:
        os.environ[EVALUATE_VARIABLE] = how
        evaluation_device.cache_clear()
        made, activation = toy(family)
        blocks, skipped = find_blocks(made.model)
        assert skipped == []
        assert [block.activation for block in blocks] == [activation]
        x = made.tokens(np.random.default_rng(4), 1, 12)
        plain = core.compile_model(made.model, "CPU", EXACT)({"x": x})["y"]
        assert len(ov_moe.optimize(made.model).rewritten) == 1
        assert "relu2glu" in {str(node.get_attributes().get("activation")) for node in moe_operations(made.model)}
        with tempfile.TemporaryDirectory() as folder:
            ov.save_model(made.model, Path(folder, "model.xml"), compress_to_fp16=False)
            y = ov_moe.compile_model(core, core.read_model(Path(folder, "model.xml")), device, EXACT)({"x": x})["y"]
        oracle = made.oracle(x)
        for name, found in (("the plain model", plain), (f"{device} {how}", y)):
            error = np.abs(found.reshape(oracle.shape) - oracle).max() / np.abs(oracle).max()
            print(f"{family}, {name}: off by {error:.1e} of the largest value")
            assert error < 5e-6
    # 182^2 * 182 is beyond f16, and a row that did not say so would lose it.
    assert may_exceed_f16(Activation("relu2glu", limit=182.0))
    assert not may_exceed_f16(Activation("reglu", limit=182.0))
    assert not may_exceed_f16(Activation("relu2glu", limit=7.0))
