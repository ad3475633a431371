"""Rewrites in models that are put together unusually, and of what must not be rewritten by half; on the CPU plugin."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from blocks_on_plugin import F32, SMALL
from openvino import opset13 as ops

import ov_moe
from ov_moe.errors import InvalidInputError
from ov_moe.testing.families import example
from ov_moe.testing.graphs import moe_block_model
from ov_moe.transformations import rewrite
from ov_moe.transformations.operations import moe_operations
from ov_moe.transformations.switches import balance_of

SIZES = {"precision": "f32", "hidden": 64, "intermediate": 32}


@pytest.fixture(scope="module")
def core() -> ov.Core:
    return ov.Core()


@pytest.fixture(autouse=True)
def _numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small inputs through NumPy: nothing is built."""
    from ov_moe.ops.evaluate import evaluation_device

    monkeypatch.setenv("OV_MOE_EVALUATE", "numpy")
    evaluation_device.cache_clear()


def joined(first: ov.Model, second: ov.Model) -> ov.Model:
    """``second`` on x + first(x)."""
    x = first.input(0)
    between = ops.add(x, first.outputs[0].get_node().input_value(0))
    entry = second.input(0)
    for target in entry.get_target_inputs():
        target.replace_source_output(between.output(0))
    others = [each.get_node() for each in second.inputs if each != entry]
    return ov.Model(second.get_results(), [*first.get_parameters(), *others])


def check(core: ov.Core, model: ov.Model, blocks: int, x: np.ndarray, **options: Any) -> ov.Model:
    """All blocks are rewritten, and the result is the unfused one."""
    expected = core.compile_model(model.clone(), "CPU", F32)(x)[0].copy()
    report = ov_moe.optimize(model, **{"balance": "on", "max_tokens": 16, "few_tokens": 4, **options})
    assert (len(report.rewritten), report.skipped) == (blocks, ()), str(report)
    found = ov_moe.compile_model(core, model, "CPU", F32)(x)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    return model


@pytest.mark.parametrize("length", [3, 21])
@pytest.mark.parametrize(
    "families",
    [
        ("GPT-OSS with biases in f16", "Qwen3-MoE in [T, 1, H]"),
        ("unrolled", "GPT-OSS with biases in f16"),
        ("unrolled", "Qwen3-MoE in [T, 1, H]"),
        ("sorted", "unrolled"),
    ],
    ids=" then ".join,
)
def test_blocks_of_two_families_that_have_the_same_names(
    core: ov.Core, families: tuple[str, str], length: int, rng: np.random.Generator
) -> None:
    """Whatever family is looked for first, blocks are replaced in the order of the graph; names are told apart."""
    model = joined(*(example(family, rng, **SIZES).model for family in families))
    x = 0.05 * rng.standard_normal((1, length, 64)).astype(np.float32)
    check(core, model, 2, x)
    assert len({str(node.get_attributes()["layer"]) for node in moe_operations(model)}) == 2


@pytest.mark.parametrize("precision", ["f32", "u4", "i8"])
@pytest.mark.parametrize("shape", [[-1, -1, 64], [1, -1, 64], [(1, 2), (1, 40), 64]], ids=str)
def test_a_rewritten_model_may_be_reshaped_to_dynamic_shapes(
    core: ov.Core, precision: Any, shape: list[Any], rng: np.random.Generator
) -> None:
    model, _ = moe_block_model(rng=rng, precision=precision, **SMALL)
    unfused = core.compile_model(model.clone(), "CPU", F32)
    ov_moe.optimize(model, "on", max_tokens=16, few_tokens=4)
    model.reshape(ov.PartialShape([ov.Dimension(*d) if isinstance(d, tuple) else ov.Dimension(d) for d in shape]))
    fused = ov_moe.compile_model(core, model, "CPU", F32)
    for length in (1, 5, 37):
        x = rng.standard_normal((1, length, 64)).astype(np.float32)
        expected = unfused(x)[0]
        np.testing.assert_allclose(fused(x)[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_block_that_cannot_be_built_leaves_the_model_as_it_was(
    core: ov.Core, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = moe_block_model(rng=rng, blocks=2, **SMALL)
    x = 0.05 * rng.standard_normal((1, 9, 64)).astype(np.float32)
    expected = core.compile_model(model.clone(), "CPU", F32)(x)[0].copy()
    build, built = rewrite.Rewrite._build, list[str]()

    def fails(self: rewrite.Rewrite, block: Any, source: str) -> ov.Output:
        built.append(block.name)
        if len(built) == 2:
            raise InvalidInputError("no memory")
        return build(self, block, source)

    monkeypatch.setattr(rewrite.Rewrite, "_build", fails)
    with pytest.raises(InvalidInputError, match="no memory"):
        ov_moe.optimize(model)
    assert not list(moe_operations(model))
    np.testing.assert_array_equal(core.compile_model(model, "CPU", F32)(x)[0], expected)
    monkeypatch.undo()
    monkeypatch.setenv("OV_MOE_EVALUATE", "numpy")
    check(core, model, 2, x)


def test_the_last_call_that_rewrites_has_the_switch(core: ov.Core, rng: np.random.Generator) -> None:
    """It is the model's: one call after another, as over a model that grew, ends with one switch for all blocks."""
    first, _ = moe_block_model(rng=rng, **SMALL)
    second, _ = moe_block_model(rng=rng, **SMALL)
    assert ov_moe.optimize(first, "on", max_tokens=16, few_tokens=4).rewritten
    assert balance_of(first) == "on"
    assert not ov_moe.optimize(first, "off").rewritten  # there is nothing left to rewrite, and nothing changes
    assert balance_of(first) == "on"
    model = joined(first, second)
    x = 0.05 * rng.standard_normal((1, 37, 64)).astype(np.float32)
    check(core, model, 1, x, balance="off")
    assert balance_of(model) == "off"
    assert {str(node.get_attributes()["build"]) for node in moe_operations(model)} == {"off"}


def test_odd_groups_are_left_alone_with_a_reason(core: ov.Core, rng: np.random.Generator) -> None:
    sizes = {**SMALL, "hidden": 64, "intermediate": 45}
    model, _ = moe_block_model(rng=rng, precision=("u8", "u8", "u8"), group_size_8bit=0, **sizes)
    ov_moe.optimize(model)  # a scale a channel: odd, and served
    assert list(moe_operations(model))
    model, _ = moe_block_model(rng=rng, precision=("f32", "f32", "u8"), group_size_8bit=5, **sizes)
    report = ov_moe.optimize(model)
    assert not list(moe_operations(model))
    assert "has groups of 5 elements, an odd number" in report.skipped[0].reason


def test_ids_that_follow_from_a_static_shape_alone_are_constant(rng: np.random.Generator) -> None:
    """A plugin folds the ShapeOf, and Route with it."""
    model, _ = moe_block_model(rng=rng, topk_as_inputs=True, **SMALL)
    ids = next(each for each in model.inputs if "ids" in each.get_names())
    rows = ops.gather(ops.shape_of(model.input(0), "i64"), ops.constant([0]), ops.constant(0))
    known = ops.broadcast(ops.constant(np.array([[1, 2]], np.int32)), ops.concat([rows, ops.constant([2])], 0))
    for target in ids.get_target_inputs():
        target.replace_source_output(known.output(0))
    model = ov.Model(model.get_results(), [each.get_node() for each in model.inputs if each != ids])
    fixed = model.clone()
    fixed.reshape(
        {name: [3, columns] for name, columns in ((next(iter(fixed.input(0).get_names())), 64), ("weights", 2))}
    )
    assert len(ov_moe.optimize(model).rewritten) == 1
    report = ov_moe.optimize(fixed)
    assert not report.rewritten
    assert "are constant" in report.skipped[0].reason


def test_a_sum_that_broadcasts_over_the_batch_has_tokens_of_its_own(core: ov.Core, rng: np.random.Generator) -> None:
    """Block A on p [1, S, H], block B on A(p) + x [B, S, H]."""
    first, _ = moe_block_model(rng=rng, **SMALL)
    second, _ = moe_block_model(rng=rng, **SMALL)
    first.reshape([1, -1, 64])
    x = ops.parameter([-1, -1, 64], ov.Type.f32, name="more")
    between = ops.add(first.outputs[0].get_node().input_value(0), x)
    entry = second.input(0)
    for target in entry.get_target_inputs():
        target.replace_source_output(between.output(0))
    model = ov.Model(second.get_results(), [*first.get_parameters(), x])
    values = [0.05 * rng.standard_normal((batch, 7, 64)).astype(np.float32) for batch in (1, 2)]
    expected = core.compile_model(model.clone(), "CPU", F32)(values)[0].copy()
    assert len(ov_moe.optimize(model, "on", max_tokens=16, few_tokens=8).rewritten) == 2
    found = ov_moe.compile_model(core, model, "CPU", F32)(values)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
