"""Every kernel against the float64 oracle: fresh numbers, poisoned outputs, poison around every buffer."""

from __future__ import annotations

import bounds
import numpy as np
import pytest
from blocks import ABSENT, Block, random_block, random_projection
from kernel_cases import CASES, Case, config
from micro_kernels import assert_rest_is_poison, assert_same_plan, check_results

from ov_moe import reference
from ov_moe.devices.opencl import default_device
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.stages import DOWN, GATE_UP


@pytest.mark.parametrize("case", CASES, ids=str)
def test_block_matches_the_oracle(case: Case, rng: np.random.Generator) -> None:
    block, setting = case.block(rng), case.config()
    results = block.run_all(default_device(), setting)
    expected = reference.plan(block.ids, case.E, setting.micro.tile_m)
    assert_same_plan(results.plan, expected, block.spec.plan_layout)
    assert_rest_is_poison(results.plan, expected, block.spec.plan_layout)
    check_results(block, results)
    padded = (block.ids < 0).all(axis=1)[: block.spec.plan_layout.view(results.plan).tokens]
    assert not results.y[: padded.size][padded].any()


def test_the_cases_cover_every_value_that_matters() -> None:
    sides = {case.H for case in CASES} | {case.I for case in CASES}
    assert {case.T for case in CASES} >= {0, 1, 2, 33, 100, 1000}
    assert {case.E for case in CASES} >= {1, 8, 60, 128, 512, 2048}
    assert {case.k for case in CASES} == set(range(1, 11))
    assert sides >= {1, 2, 33, 47, 64, 65, 130, 2880}
    kinds = {(kind, bool(case.group), case.zero) for case in CASES for kind in np.atleast_1d(case.kinds)}
    assert kinds >= {(kind, group, zero) for kind in ("u4", "i4") for group in (False, True) for zero in (False, True)}


@pytest.mark.parametrize("schedule", ["grid", "ticket"])
def test_silu_saturates(schedule: str, rng: np.random.Generator) -> None:
    """Gates of some hundreds: exp overflows on one side, silu is the identity on the other."""
    block = random_block(rng, tokens=33, experts=8, top_k=2, hidden=33, intermediate=65, precision="f32")
    block.x *= np.float32(300)
    y = block.run(default_device(), config(schedule))
    bounds.error(block, y).check()


@pytest.mark.timeout(120)
def test_experts_beyond_2_to_the_31_elements(rng: np.random.Generator) -> None:
    """2048 experts of 1026 x 1024 4-bit weights, 1.1 GiB: the first and the last one in use.

    gate, up and down are the same bytes, told apart by their scales; experts without tokens hold zeros.
    """
    experts, n, k = 2048, 1024, 1026
    small = [random_projection(rng, 2, *shape, "u4", zero=True) for shape in ((n, k), (n, k), (k, n))]
    whole = np.zeros((experts, n * k // 2), np.uint8)
    whole[[0, -1]] = small[0].arrays[0].reshape(2, -1)
    assert whole.size * 2 > 2**31

    def spread(values: np.ndarray) -> np.ndarray:
        wide = np.zeros((experts, values.size // 2), values.dtype)
        wide[[0, -1]] = values.reshape(2, -1)
        return wide

    arrays = []
    for part in small:
        scale, zeros = part.arrays[1:]
        arrays.append([whole.reshape(-1, part.spec.n, part.spec.k // 2, 1), spread(scale), spread(zeros)])
        part.dense = reference.dequantize(part.spec, whole[[0, -1]], scale, zeros)

    ids = np.array([[0, experts - 1], [experts - 1, 0], [experts - 1, -1]], np.int32)
    x, weights = rng.standard_normal((3, k)).astype(np.float32), rng.random((3, 2)).astype(np.float32)
    spec = BlockSpec(experts, 2, 3, *(part.spec for part in small))
    big = Block(spec, *small, x, ids, weights)
    device, setting = default_device(), config("ticket")
    plan, attributes = big.plan(device, setting), spec.attributes()
    h, d = np.full((6, n), np.nan, np.float32), np.full((6, k), np.nan, np.float32)
    device.run(GATE_UP, setting, attributes, [x, plan, *arrays[0], *arrays[1]], h)
    device.run(DOWN, setting, attributes, [h, plan, *arrays[2], ABSENT], d)
    rows = spec.plan_layout.view(plan).row_of_pair.reshape(3, 2)
    y = np.zeros((3, k))
    for slot in range(2):
        live = ids[:, slot] >= 0
        y[live] += weights[live, slot, None].astype(np.float64) * d[rows[live, slot]]

    few = BlockSpec(2, 2, 3, *(part.spec for part in small))
    bounds.error(Block(few, *small, x, np.where(ids > 0, 1, ids).astype(np.int32), weights), y).check()
