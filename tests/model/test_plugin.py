"""What the GPU plugin does with our operations: our kernels run, nothing is built at run time, launches add up."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from blocks_on_plugin import F32, SMALL, our_builds, our_launches, pair

import ov_moe
from ov_moe import virtual_gpu
from ov_moe.ops.base import MoEOp
from ov_moe.testing.graphs import moe_block_model

KERNELS = {"ov_moe_route", "ov_moe_gate_up", "ov_moe_down", "ov_moe_combine"}


@pytest.fixture(scope="module")
def core() -> ov.Core:
    return ov.Core()


def test_the_execution_graph_and_the_profile_name_our_kernels(core, rng):
    both = pair(core, rng, blocks=2)
    nodes = [
        node.get_rt_info()["primitiveType"].astype(str)
        for node in both.fused.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "CustomGPUPrimitive"
    ]
    assert sorted(nodes) == sorted(
        [f"{kernel}__{'i32' if kernel == 'ov_moe_route' else 'f32'}" for kernel in KERNELS] * 2
    )
    virtual_gpu.reset()
    both.check(both.random_input(rng, 20))
    assert {name: launch.count for name, launch in our_launches().items()} == dict.fromkeys(KERNELS, 2)


def test_nothing_is_built_after_compilation_whatever_the_length(core, rng):
    both = pair(core, rng, blocks=2, max_tokens=32)
    assert our_builds() > 0
    virtual_gpu.reset()
    for length in rng.integers(1, 120, 30):  # three quarters of them longer than an island
        both.check(both.random_input(rng, int(length)))
    for _ in range(10):
        both.check(both.random_input(rng, 1))
    assert our_builds() == 0


def test_a_deep_model_is_built_once_and_runs_without_python(core, rng, monkeypatch):
    """48 layers: 384 operations, more than the 300 entries of the plugin's implementation cache."""
    virtual_gpu.reset()
    both = pair(core, rng, blocks=48, max_tokens=24, few_tokens=8)
    assert our_builds() == 48 * 8  # four operations for few tokens, four in the loop for many
    calls: list[str] = []
    for name in ("validate_and_infer_types", "evaluate", "clone_with_new_inputs", "visit_attributes"):
        monkeypatch.setattr(MoEOp, name, lambda self, *_, name=name: calls.append(name))
    lengths = [int(length) for length in rng.integers(1, 80, 50)]
    inputs = [0.05 * both.random_input(rng, length) for length in (*lengths, *[1] * 50)]
    assert ov_moe.warmup(both.fused, inputs=[{"x": x} for x in inputs[:2]], progress=False) == 2
    virtual_gpu.reset()
    for x in inputs:
        both.fused(x)
    assert our_builds() == 0
    assert calls == []
    for x in inputs[::10]:
        # Small inputs: a block is about quadratic in them, and 48 residuals add up.
        both.check(x)


@pytest.mark.parametrize(("experts", "top_k"), [(8, 2), (60, 4)])
@pytest.mark.parametrize("groups", [1, 7, 400])
def test_the_pool_launches_the_configured_groups(core, rng, groups, experts, top_k):
    both = pair(core, rng, balance="on", experts=experts, top_k=top_k, compile_options={"groups": groups})
    for tokens in (1, 13, 32):
        virtual_gpu.reset()
        both.check(both.random_input(rng, tokens))
        launches = our_launches()
        assert launches["ov_moe_gate_up"].groups == groups
        assert launches["ov_moe_down"].groups == groups
        assert launches["ov_moe_combine"].groups == 1  # 32 tokens of 8 work-items
        assert launches["ov_moe_route"].groups == 1


def test_the_grid_launches_what_its_formula_says(core, rng):
    sizes = {"experts": 8, "hidden": 130, "intermediate": 66, "precision": "f16"}
    options = {"balance": "off", "max_tokens": 70, "few_tokens": 1, "compile_options": {"groups": 5}}
    both = pair(core, rng, **options, **sizes)
    # ceil(2 * 66 / 64) or ceil(130 / 64), ceil(70 / 32), experts; the decode island always runs on the pool.
    for tokens, groups in ((1, 5), (2, 5 + 3 * 3 * 8), (70, 5 + 3 * 3 * 8)):
        virtual_gpu.reset()
        both.check(both.random_input(rng, tokens))
        launches = our_launches()
        assert launches["ov_moe_gate_up"].groups == groups
        assert launches["ov_moe_down"].groups == groups


def test_blocks_share_the_arithmetic_on_the_number_of_tokens(core, rng):
    model, _ = moe_block_model(rng=rng, blocks=5, **SMALL)
    ov_moe.optimize(model)
    loops = [node for node in model.get_ops() if node.get_type_name() == "Loop"]
    trips = {node.input_value(0).get_node().input_value(0).get_node().get_name() for node in loops}
    assert (len(loops), len(trips)) == (5, 1)


def test_balance_and_fetch_do_not_change_a_bit(core):
    # Without a router: the plugin replaces its MatMul by another kernel in the background, with other last bits.
    data = np.random.default_rng(3)
    inputs = {
        "x": data.standard_normal((29, SMALL["hidden"])).astype(np.float32),
        "ids": data.integers(0, SMALL["experts"], (29, SMALL["top_k"])).astype(np.int32),
        "weights": data.random((29, SMALL["top_k"])).astype(np.float32),
    }
    results = []
    for balance, options in (
        ("off", {}),
        ("on", {"fetch": "ticket"}),
        ("on", {"fetch": "stride"}),
        ("on", {"fetch": "ticket", "groups": 1}),
        ("on", {"fetch": "ticket", "groups": 400}),
    ):
        model, _ = moe_block_model(rng=np.random.default_rng(4), blocks=2, topk_as_inputs=True, **SMALL)
        ov_moe.optimize(model, balance, max_tokens=16)
        compiled = ov_moe.compile_model(core, model, "GPU", F32, **options)
        results += [compiled(inputs)[0].copy() for _ in range(2)]
    assert np.isfinite(results[0]).all()
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_a_block_adds_no_wait_of_the_host(core, rng):
    both = pair(core, rng, blocks=6)
    x = 0.05 * both.random_input(rng, 20)  # small, as above: large ones double a relative error with each block
    both.check(x)
    virtual_gpu.reset()
    both.fused(x)
    assert virtual_gpu.snapshot().blocking_waits < 6  # 1 or 2: for the input and the result


def test_large_allocations(core, rng):
    """The plugin asks the driver for buffers above 4 GiB, and our kernels are built for them."""
    both = pair(core, rng, properties={"GPU_ENABLE_LARGE_ALLOCATIONS": True})
    for tokens in (1, 70):
        both.check(both.random_input(rng, tokens))


@pytest.mark.parametrize("device", ["GPU.0", "AUTO:GPU", "MULTI:GPU"])
def test_other_names_of_a_gpu_run_our_kernels(core, rng, device):
    both = pair(core, rng, device)
    virtual_gpu.reset()
    both.check(both.random_input(rng, 9))
    assert our_launches().keys() >= KERNELS
