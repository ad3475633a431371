"""The schedule changes who computes a tile and when, never a bit of the result; and what gets launched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from blocks import Block, Results, WorkSize, random_block, random_ids, same_bits
from kernel_cases import GPT_OSS, config, hot
from micro_kernels import assert_same

from ov_moe import virtual_gpu
from ov_moe.devices.opencl import default_device
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.geometry import COMBINE_SIZE

SCHEDULES = ("grid", "ticket", "stride")


# No size divides a tile; f16 stands in f16 buffers.
STORED: dict[str, dict[str, Any]] = {
    "u4": {"precision": "u4", "hidden": 130, "intermediate": 66, "zero": True},
    "f16": {"precision": "f16", "hidden": 65, "intermediate": 47, "dtype": np.float16},
    "f4e2m1 interleaved": {
        "precision": ("f4e2m1", "f16"),
        "hidden": 96,
        "intermediate": 47,
        "group": 32,
        "layout": "interleaved",
        "activation": GPT_OSS,
        "biases": np.float16,
    },
}


@pytest.fixture(params=STORED)
def block(request: pytest.FixtureRequest, rng: np.random.Generator) -> Block:
    """100 tokens with a hot expert and several row tiles."""
    ids = hot(rng, 100, 20, 3)
    return random_block(rng, tokens=100, experts=20, top_k=3, ids=ids, max_tokens=110, **STORED[request.param])


def run(block: Block, setting: KernelConfig, sizes: dict[str, WorkSize] | None = None) -> Results:
    return block.run_all(default_device(), setting, sizes)


def test_schedules_and_repeated_runs_agree_bit_for_bit(block: Block) -> None:
    expected = run(block, config("grid"))
    assert not np.isnan(expected.y[:100]).any()
    for schedule in SCHEDULES:
        for _ in range(3):
            assert_same(run(block, config(schedule)), expected)


@pytest.mark.parametrize("schedule", ["ticket", "stride"])
def test_any_number_of_groups_agrees_bit_for_bit(schedule: str, block: Block) -> None:
    """One group does all, 7 share, of 400 most find nothing to do."""
    expected = run(block, config("grid"))
    for groups in (1, 7, 400):
        assert_same(run(block, config(schedule, groups)), expected)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "tiles",
    [
        {"tile_m": 16},
        {"tile_m": 64},
        {"tile_n": 32},
        {"tile_m": 16, "tile_n": 128, "local_size": 64},
        {"tile_k": 16, "local_size": 256},
    ],
    ids=str,
)
def test_other_tiles_agree_bit_for_bit(tiles: dict[str, int], schedule: str, block: Block) -> None:
    """Each accumulator adds in the order of k, wherever it stands."""
    assert_same(run(block, config(schedule, **tiles)), run(block, config("grid")))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_permuted_tokens_give_permuted_outputs(schedule: str, block: Block, rng: np.random.Generator) -> None:
    order = np.append(rng.permutation(100), np.arange(100, 110))
    shuffled = replace(block, x=block.x[order], ids=block.ids[order], weights=block.weights[order])
    expected, found = run(block, config(schedule)).y, run(shuffled, config(schedule)).y
    assert same_bits(found, expected[order])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_token_does_not_depend_on_its_company(schedule: str, block: Block) -> None:
    """Alone, its expert's tile has one row; among others it is row 40 of the second tile, say."""
    expected = run(block, config(schedule)).y
    for token in (0, 57, 99):
        ids = np.full_like(block.ids, -2)
        ids[0] = block.ids[token]
        x, weights = block.x.copy(), block.weights.copy()
        x[0], weights[0] = block.x[token], block.weights[token]
        alone = run(replace(block, x=x, ids=ids, weights=weights), config(schedule)).y
        assert same_bits(alone[0], expected[token])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("groups", [(1, 1, 1), (2, 1, 3), (1, 2, 7), (3, 3, 1)], ids=str)
def test_a_grid_smaller_than_the_problem_is_right(schedule: str, groups: tuple[int, int, int], block: Block) -> None:
    """Every loop over tasks strides by the groups there are; so does Combine over tokens."""
    expected, setting = run(block, config("grid")), config(schedule)
    # The pool is one line of groups.
    pool = WorkSize(groups if schedule == "grid" else (groups[0], 1, 1), setting.micro.local_size)
    combine = WorkSize((groups[0], 1, 1), COMBINE_SIZE)
    gate_up = block.spec.gate_up_stage.op_type
    found = run(block, setting, {gate_up: pool, "MoEDown": pool, "MoECombine": combine})
    assert_same(found, expected)


def test_a_grid_larger_than_the_problem_is_right(block: Block) -> None:
    """One custom layer serves every block of a model: its grid is the largest that any of them needs."""
    large = WorkSize((9, 7, 31), config("grid").micro.local_size)
    found = run(block, config("grid"), {block.spec.gate_up_stage.op_type: large, "MoEDown": large})
    assert_same(found, run(block, config("grid")))


def launched(block: Block, setting: KernelConfig) -> dict[str, int]:
    virtual_gpu.reset()
    run(block, setting)
    launches = virtual_gpu.snapshot().launches_of("ov_moe_")
    assert all(launch.count == 1 for launch in launches.values())
    return {name: launch.last_groups for name, launch in launches.items()}


@pytest.mark.parametrize("tokens", [0, 1, 70])
@pytest.mark.parametrize("experts", [8, 200])
def test_work_groups_launched(tokens: int, experts: int, rng: np.random.Generator) -> None:
    """The pool launches its groups whatever T and E; the grid one group for each place that a tile could have."""
    block = random_block(
        rng,
        tokens=tokens,
        experts=experts,
        top_k=2,
        hidden=70,
        intermediate=70,
        ids=random_ids(rng, tokens, experts, 2),
        max_tokens=70,
    )
    for schedule in ("ticket", "stride"):
        counted = launched(block, config(schedule, 11))
        assert counted == {"ov_moe_route": 1, "ov_moe_gate_up": 11, "ov_moe_down": 11, "ov_moe_combine": 3}
    # ceil(2 * 70 / 64) = 3 blocks of gate and up, ceil(70 / 64) = 2 of down, ceil(70 / 32) = 3 row tiles; Combine has 9
    # work-items a token, 256 a group.
    grid = launched(block, config("grid", 200))
    expected = {"ov_moe_gate_up": 3 * 3 * experts, "ov_moe_down": 2 * 3 * experts, "ov_moe_combine": 3}
    assert grid == {"ov_moe_route": 1, **expected}
