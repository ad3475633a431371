"""What stands between the projections: extreme gates and ups, clamps met from both sides, NaN; and exact mxfp4."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import bounds
import numpy as np
import pytest
from blocks import ABSENT, Block, Projection, pack, random_block, same_bits
from kernel_cases import GPT_OSS, config

from ov_moe import reference
from ov_moe.devices.opencl import default_device
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.stages import DOWN, ROUTE
from ov_moe.ops.evaluate import EVALUATE_VARIABLE, evaluate_stage, evaluation_device
from ov_moe.spec import Activation, GateUpLayout, ProjectionSpec

FORMS = {
    "swiglu": Activation(),
    "GPT-OSS": GPT_OSS,
    "a falling swish": Activation(beta=-0.5, limit=20.0),
    "geglu_tanh": Activation("geglu_tanh", up_offset=-2.0),
    "geglu_erf": Activation("geglu_erf", limit=1e-3),
    "reglu": Activation("reglu", limit=3.0),
}
SIDES = [
    0.0,
    1e-40,
    1e-30,
    1e-3,
    0.5,
    0.9999,
    3.0,
    5.5,
    6.9999995,
    7.0,
    7.0000005,
    9.3,
    20.0,
    88.8,
    104.0,
    1e4,
    1e13,
    3e38,
]
VALUES = np.array([sign * value for value in SIDES for sign in (1, -1)], np.float32)
UPS = np.array([0.0, -0.0, 1.0, -2.0, 6.9999995, -7.0, 7.0000005, 1e3, -1e18], np.float32)


@pytest.fixture(params=["opencl", "numpy"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways in which ``evaluate`` computes; the kernels are the plugin's too."""
    monkeypatch.setenv(EVALUATE_VARIABLE, request.param)
    evaluation_device.cache_clear()
    yield request.param
    evaluation_device.cache_clear()


def stage(block: Block, which, inputs: list[np.ndarray], shape: tuple[int, int], kind: type = np.float32) -> np.ndarray:
    output = np.full(shape, np.nan if kind is np.float32 else -7, kind)
    evaluate_stage(which, block.spec, inputs, output, "on")
    return output


def pass_through(activation: Activation, layout: GateUpLayout, x: np.ndarray) -> np.ndarray:
    """h of gate = x[:, 0] and up = x[:, 1], exactly: one expert, one slot, weights of zeros and ones."""
    tokens = len(x)
    weights = np.eye(2, dtype=np.float32)
    if layout == "separate":
        gate, up = (Projection(ProjectionSpec("f32", 1, 2), [row, ABSENT, ABSENT], row) for row in weights)
    else:
        gate, up = Projection(ProjectionSpec("f32", 2, 2), [weights, ABSENT, ABSENT], weights), None
    down = Projection(ProjectionSpec("f32", 2, 1), [np.ones(2, np.float32), ABSENT, ABSENT], np.ones((1, 2, 1)))
    spec = BlockSpec(1, 1, tokens, gate.spec, up.spec if up else None, down.spec, layout, activation)
    block = Block(spec, gate, up, down, x, np.zeros((tokens, 1), np.int32), np.ones((tokens, 1), np.float32))
    plan = stage(block, ROUTE, [block.ids], (spec.plan_layout.size, 1), np.int32).reshape(-1)
    return stage(block, spec.gate_up_stage, block.gate_up_inputs(plan), (tokens, 1)).reshape(-1)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("layout", ["separate", "interleaved", "halves"])
@pytest.mark.parametrize("name", FORMS)
def test_extreme_values(name: str, layout: GateUpLayout, where: str) -> None:
    """Saturation on both sides, denormals, clamps from both sides, cubes and exponentials beyond fp32."""
    pairs = np.array(list(product(VALUES, UPS)), np.float32)
    h = pass_through(FORMS[name], layout, pairs)
    exactly = [(pairs[:, i].astype(np.float64), np.zeros(len(pairs)), np.zeros(len(pairs))) for i in (0, 1)]
    expected, bound, _ = bounds.activated(FORMS[name], *exactly)
    limit = float(np.finfo(np.float32).max)
    finite = np.abs(expected) + bound <= limit
    assert finite.mean() > 0.8
    assert (np.abs(h - expected)[finite] <= bound[finite]).all()
    beyond = np.abs(expected) - bound > limit
    np.testing.assert_array_equal(h[beyond], np.sign(expected[beyond]) * np.inf)


@pytest.mark.parametrize("name", FORMS)
def test_a_nan_passes(name: str, where: str) -> None:
    """fmin, fmax and clamp would hide it, and so would ``gate > 0 ? gate : 0``."""
    pairs = np.array([[1, 2], [np.nan, 2], [3, 4]], np.float32)
    gate = pass_through(FORMS[name], "halves", pairs)
    assert np.isnan(gate).tolist() == [False, True, False]


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("part", ["gate", "up"])
def test_a_nan_in_one_bias_reaches_the_rows_of_its_expert_alone(
    name: str, layout: GateUpLayout, part: str, rng: np.random.Generator
) -> None:
    options = {"tokens": 20, "experts": 4, "top_k": 1, "hidden": 6, "intermediate": 5, "precision": "f32"}
    block = random_block(rng, layout=layout, activation=FORMS[name], biases=np.float32, **options)
    assert block.gate_bias is not None
    block.ids[:4, 0] = range(4)
    expected = block.run(default_device(), config("ticket"))
    column = {"interleaved": 2 * 3, "halves": 3}[layout] + (part == "up") * {"interleaved": 1, "halves": 5}[layout]
    block.gate_bias[2, column] = np.nan
    y = block.run(default_device(), config("ticket"))
    hit = block.ids[:, 0] == 2
    assert np.isnan(y[hit]).all()
    assert same_bits(y[~hit], expected[~hit])


def test_a_bias_is_added_in_fp32_and_not_to_padding(rng: np.random.Generator) -> None:
    """Biases of 2^24 beside products of about 1; a token without an expert still gives zero."""
    options = {"tokens": 33, "experts": 5, "top_k": 2, "hidden": 34, "intermediate": 18, "precision": "f16"}
    for layout in ("interleaved", "halves"):
        block = random_block(rng, layout=layout, activation=Activation("reglu"), biases=np.float32, **options)
        assert block.gate_bias is not None
        assert block.down_bias is not None
        block.gate_bias *= np.float32(2**24)
        block.down_bias *= np.float32(2**24)
        block.ids[7] = -1
        y = block.run(default_device(), config("ticket"))
        bounds.error(block, y).check()
        assert not y[7].any()


def test_every_code_and_exponent_of_f4e2m1_is_exact(where: str) -> None:
    """d of unit rows is the weights themselves: 16 codes twice, at the exponents' bytes 0 to 255.

    Where a value would be beyond fp32, its code is that of 1, and so are all at the byte 255: NaN, while 2^128 would
    give infinity in a row of ones. 2^-128 is below fp32's normal numbers: kept or zero.
    """
    codes = np.tile(np.arange(16), (256, 2))
    exponents = np.arange(256)[:, None]
    codes = np.where(reference.E2M1[codes] * 2.0 ** (exponents - 127) > 3.4e38, 2, codes)
    codes = np.where(reference.E2M1[codes] * 2.0 ** (exponents - 127) < -3.4e38, 10, codes)
    codes[255] = 2
    spec = ProjectionSpec("f4e2m1", 256, 32, 32)
    arrays = [pack(codes), exponents.astype(np.uint8).reshape(-1), ABSENT]
    down = Projection(spec, arrays, reference.dequantize(spec, arrays[0], arrays[1]))
    gate = Projection(ProjectionSpec("f32", 32, 256), [], np.zeros((1, 32, 256)))
    shape = BlockSpec(1, 1, 33, gate.spec, gate.spec, spec)
    block = Block(shape, gate, gate, down, np.zeros((33, 256)), np.zeros((33, 1), np.int32), np.ones((33, 1)))
    plan = stage(block, ROUTE, [block.ids], (shape.plan_layout.size, 1), np.int32).reshape(-1)
    h = np.append(np.eye(32, dtype=np.float32), np.ones((1, 32), np.float32), axis=0)
    *d, ones = stage(block, DOWN, block.down_inputs(h, plan), (33, 256))
    assert np.isnan(ones[255])
    expected = down.dense[0].T.astype(np.float32)
    d = np.array(d)
    assert np.isnan(expected).sum() == np.isnan(d).sum() == 32
    assert np.isfinite(expected[:, :255]).all()
    normal = np.abs(expected) >= bounds.TINY
    np.testing.assert_array_equal(d[normal], expected[normal])
    small = ~normal & ~np.isnan(expected)
    assert ((d[small] == expected[small]) | (d[small] == 0)).all()
