"""The toy format in a copy of the tree.

What its codes stand for comes from ``ml_dtypes``: neither the table, nor the oracle, nor the kernels know that.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import openvino as ov
from blocks import ABSENT, Block, Projection, random_block
from exported import EXACT
from kernel_cases import config
from micro_kernels import check_results, rounded
from typer.testing import CliRunner

import ov_moe
from ov_moe import reference
from ov_moe.devices.opencl import default_device
from ov_moe.kernel_bench import app
from ov_moe.kernels.formats import FORMATS, decode
from ov_moe.kernels.micro import Dpas, Fma, Gemv
from ov_moe.ops.evaluate import EVALUATE_VARIABLE, evaluation_device
from ov_moe.spec import ProjectionSpec
from ov_moe.testing.families import Example, example
from ov_moe.transformations.families import find_blocks

NAME = "f8e4m3"
CODES = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64)


def numbers() -> None:
    """The table's row and the oracle, each by itself."""
    np.testing.assert_array_equal(FORMATS[NAME].values(), CODES)
    codes, scale = np.arange(256, dtype=np.uint8), np.array([0.5, 3, 0.25, 1.5], np.float16)
    spec = ProjectionSpec(NAME, 2, 128, 64)
    expected = (CODES.reshape(4, 64) * scale[:, None].astype(np.float64)).reshape(2, 128)
    np.testing.assert_array_equal(decode(spec, codes, scale, None), expected)
    np.testing.assert_array_equal(reference.dequantize(spec, codes, scale)[0], expected)


def drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Codes of every magnitude, no NaN."""
    values = rng.standard_normal(shape) * 2.0 ** rng.integers(-8, 2, shape)
    return values.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)


def kernels() -> None:
    """Every micro-kernel takes it, by twos."""
    rng = np.random.default_rng(2)

    def projection(given: Projection) -> Projection:
        spec = replace(given.spec, precision=NAME)
        codes = drawn(rng, given.arrays[0].shape)
        scale = given.arrays[1] * np.float16(100)  # of numbers up to 255, and here of about 1
        experts = given.dense.shape[0]
        dense = CODES[codes].reshape(-1, spec.group_size) * scale.astype(np.float64).reshape(-1, 1)
        return Projection(spec, [codes, scale, ABSENT], dense.reshape(experts, spec.n, spec.k))

    def block_of(hidden: int, intermediate: int, group: int) -> Block:
        sizes: dict[str, Any] = {"hidden": hidden, "intermediate": intermediate, "group": group}
        made = random_block(rng, tokens=7, experts=4, top_k=2, precision="u8", dtype=np.float16, **sizes)
        assert made.up is not None
        gate, up, down = (projection(part) for part in (made.gate, made.up, made.down))
        spec = replace(made.spec, gate=gate.spec, up=up.spec, down=down.spec)
        return replace(made, spec=spec, gate=gate, up=up, down=down)

    for block in (block_of(96, 64, 32), block_of(33, 65, 0)):
        for micro in (Fma(tile_m=8), Gemv(), Dpas.of(8, few=True, emulation=True)):
            results = block.run_all(default_device(), config("ticket", 3, micro))
            check_results(rounded(block) if micro.half_only else block, results)


def model_of(rng: np.random.Generator) -> Example:
    """A model of u8 weights whose constants are of the format then."""
    made = example("Qwen3-MoE", rng, precision="u8", hidden=65, intermediate=33, symmetric=True)
    (weights,) = made.weights
    dense = []
    nodes = made.model.get_ordered_ops()
    constants = [n for n in nodes if n.get_type_name() == "Constant" and n.get_element_type() == ov.Type.u8]
    for raw in weights.raw:
        (node,) = (one for one in constants if np.array_equal(one.data.reshape(-1), raw.values.reshape(-1)))
        codes = drawn(rng, raw.values.shape)
        stored = ov.op.Constant(ov.Tensor(codes, node.output(0).get_shape(), ov.Type.f8e4m3), shared_memory=False)
        stored.set_friendly_name(node.get_friendly_name())
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(stored.output(0))
        assert raw.scale is not None
        dense.append(CODES[codes] * raw.scale.astype(np.float64))
    made.model.validate_nodes_and_infer_types()
    return replace(made, weights=[replace(weights, gate=dense[0], up=dense[1], down=dense[2])])


def plugin() -> None:
    """A model with such weights, as OpenVINO stores them: matched, rewritten and run on both plugins."""
    rng, core = np.random.default_rng(3), ov.Core()
    for device, how in (("CPU", "numpy"), ("CPU", "opencl"), ("GPU", "numpy")):
        os.environ[EVALUATE_VARIABLE] = how
        evaluation_device.cache_clear()
        made = model_of(rng)
        (block,), skipped = find_blocks(made.model)
        assert skipped == []
        assert [part.spec.precision for part in (block.gate, block.up, block.down) if part is not None] == [NAME] * 3
        plain = core.compile_model(made.model.clone(), "CPU", EXACT)
        assert len(ov_moe.optimize(made.model).rewritten) == 1
        fused = ov_moe.compile_model(core, made.model, device, EXACT)
        for length in (1, 12):
            x = made.tokens(rng, 1, length)
            oracle = made.oracle(x)
            for name, compiled in ((f"{device} {how}", fused), ("the plain model", plain)):
                error = np.abs(compiled(x)[0] - oracle).max() / np.abs(oracle).max()
                print(f"{name}, {length} tokens: off by {error:.1e} of the largest value")
                assert error < 5e-6


def bench() -> None:
    """The benchmark draws such weights and checks what comes of them; mma, which knows no such codes, refuses."""
    words = "--shape 64/32/8/2 --tokens 4 --distribution uniform --schedule grid --flush-mib 1 --repeats 2"
    done = CliRunner().invoke(app, [*words.split(), "--precision", NAME])
    assert done.exit_code == 0, done.output
    refused = CliRunner().invoke(
        app, [*words.split(), "--precision", NAME, "--set", "micro_kernel=mma", "--set", "emulation=1"]
    )
    assert refused.exit_code == 1
    assert "of weights that are no integers it takes f4e2m1 alone" in " ".join(refused.output.split())
