"""Models made here, without torch: every family and form, rewritten, against the unfused model and the oracle.

On the CPU plugin most blocks are computed in NumPy, and one precision of each form by the kernels; on the GPU plugin a
choice runs that covers every family and every precision.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openvino as ov
import pytest
from blocks_on_plugin import our_launches
from exported import EXACT

import ov_moe
from ov_moe import virtual_gpu
from ov_moe.ops.evaluate import EVALUATE_VARIABLE, evaluation_device
from ov_moe.testing.families import FAMILIES, PRECISIONS, Example, example
from ov_moe.transformations.operations import moe_operations

# Everything is computed in fp32, or better: of some hundred terms in a sum only the order differs.
LIMIT = 5e-6
ROOM = 8
# (batch, length): a decode step, a short prompt, a batch whose tokens fill more than ROOM, a prompt of three chunks.
RUNS = ((1, 1), (1, 7), (2, 5), (1, 21))
# All precisions of one form of each family; of every other form three of them, in turn.
WHOLE = ("Qwen3-MoE", "AFMoE", "GPT-OSS", "halves by a VariadicSplit", "unrolled", "sorted")
TURNS = list(PRECISIONS)
ON_CPU = [
    (family, precision, TURNS[index % len(TURNS)] == precision)
    for index, family in enumerate(FAMILIES)
    for precision in (TURNS if family in WHOLE else [TURNS[(index + step) % len(TURNS)] for step in (0, 3, 6)])
]
ON_GPU = {
    ("Qwen3-MoE", "u4"): "three GEMMs in groups, with zero points",
    ("AFMoE", "u8"): "[B, S, H] from the shape of x, beside a dense expert that stays with the plugin",
    ("GPT-OSS", "mxfp4"): "one interleaved GEMM, f8e8m0 scales as bytes",
    ("GPT-OSS with biases in f16", "f16"): "constants of f16 in a model in f32",
    ("halves by a VariadicSplit", "i8"): "one GEMM in halves, odd I",
    ("halves by a Split", "u4 by channel"): "4-bit zero points, an odd count of them an expert",
    ("GEGLU by tanh", "i4"): "another activation, groups of 16",
    ("ReGLU in [B, S, H]", "f32"): "halves, a dense expert and another activation together",
    ("unrolled", "u4 without zero points"): "the weights of the experts are stacked",
    ("sorted", "i4 by channel"): "stacked halves of 4 bits",
}


@pytest.fixture(scope="module")
def core() -> ov.Core:
    return ov.Core()


@pytest.fixture
def numpy_or_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where ``evaluate`` computes: the kernels take a compilation for each form and precision."""
    monkeypatch.setenv(EVALUATE_VARIABLE, "opencl" if request.param else "numpy")
    evaluation_device.cache_clear()
    yield
    evaluation_device.cache_clear()


def rewritten(given: Example, blocks: int = 1) -> ov.Model:
    """The model, with all its blocks rewritten."""
    report = ov_moe.optimize(given.model, max_tokens=ROOM)
    assert len(report.rewritten) == blocks, str(report)
    assert report.skipped == (), str(report)
    kinds = [operation.get_type_name() for operation in moe_operations(given.model)]
    assert any(kind.startswith("MoEGateUp") for kind in kinds)
    return given.model


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(found, expected, rtol=0, atol=LIMIT * np.abs(expected).max())


def check(core: ov.Core, rng: np.random.Generator, given: Example, device: str) -> None:
    """The rewritten model against the unfused one on the CPU plugin and against the oracle."""
    unfused = core.compile_model(given.model.clone(), "CPU", EXACT)
    fused = ov_moe.compile_model(core, rewritten(given), device, EXACT)
    for batch, length in RUNS:
        x = given.tokens(rng, batch, length)
        result = fused(x)[0].copy()
        close(result, unfused(x)[0])
        close(result, given.oracle(x).astype(np.float32))


@pytest.mark.parametrize(
    ("family", "precision", "numpy_or_kernels"),
    [
        pytest.param(family, precision, kernels, id=f"{family} {precision} {'kernels' if kernels else 'numpy'}")
        for family, precision, kernels in ON_CPU
    ],
    indirect=["numpy_or_kernels"],
)
def test_on_the_cpu_plugin(
    core: ov.Core, rng: np.random.Generator, family: str, precision: str, numpy_or_kernels: None
) -> None:
    check(core, rng, example(family, rng, **PRECISIONS[precision]), "CPU")


@pytest.mark.parametrize(
    ("family", "precision"), [pytest.param(*case, id=f"{' '.join(case)}: {why}") for case, why in ON_GPU.items()]
)
def test_on_the_gpu_plugin(core: ov.Core, rng: np.random.Generator, family: str, precision: str) -> None:
    virtual_gpu.reset()
    check(core, rng, example(family, rng, **PRECISIONS[precision]), "GPU")
    launched = " ".join(our_launches())
    assert all(f"ov_moe_{stage}" in launched for stage in ("route", "gate_up", "down", "combine"))


def test_every_family_and_every_precision_runs_on_both_plugins() -> None:
    assert {family for family, _, _ in ON_CPU} == set(FAMILIES)
    assert {precision for _, precision, _ in ON_CPU} == set(PRECISIONS)
    assert set(WHOLE) <= {family for family, _ in ON_GPU}
    assert {precision for _, precision in ON_GPU} == set(PRECISIONS)
    assert all((family, precision) in [case[:2] for case in ON_CPU] for family in WHOLE for precision in PRECISIONS)


@pytest.mark.parametrize("family", WHOLE)
def test_all_blocks_of_a_chain_fire(core: ov.Core, rng: np.random.Generator, family: str) -> None:
    """Blocks on top of one another, x + block(x): each has weights, operations and tickets of its own."""
    given = example(family, rng, blocks=3, precision="f32", hidden=33, intermediate=17)
    unfused = core.compile_model(given.model.clone(), "CPU", EXACT)
    fused = ov_moe.compile_model(core, rewritten(given, 3), "CPU", EXACT)
    # Small, so that no router of a later block comes near a tie by what the ones before leave of rounding.
    x = given.tokens(rng, 2, 7)
    close(fused(x)[0], unfused(x)[0])


@pytest.mark.parametrize("family", WHOLE)
def test_fixed_shapes_are_rewritten_too(core: ov.Core, rng: np.random.Generator, family: str) -> None:
    given = example(family, rng, precision="f32", hidden=33, intermediate=17)
    given.model.reshape([2, 7, 33])
    unfused = core.compile_model(given.model.clone(), "CPU", EXACT)
    fused = ov_moe.compile_model(core, rewritten(given), "CPU", EXACT)
    x = given.tokens(rng, 2, 7)
    close(fused(x)[0], unfused(x)[0])
