"""Route and its plan: exact against the reference, whatever the buffer held before."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import POISON_INT, random_block
from kernel_cases import Ids, among, config, rows_of, same, some_slots
from micro_kernels import assert_same_plan

from ov_moe import reference
from ov_moe.devices.opencl import default_device
from ov_moe.kernels.compose import program
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.geometry import work_size
from ov_moe.kernels.plan import D_WIDE, H_WIDE, TICKET_DOWN, TICKET_GATE_UP, PlanLayout
from ov_moe.kernels.stages import ROUTE


def route(ids: np.ndarray, experts: int, setting: KernelConfig, before: int = POISON_INT) -> np.ndarray:
    """The plan that the kernel writes into a buffer full of ``before``."""
    layout = PlanLayout(experts, ids.shape[1], ids.shape[0])
    plan = np.full((layout.size, 1, 1, 1), before, np.int32)
    sizes = {"experts": experts, "top_k": ids.shape[1], "max_tokens": ids.shape[0]}
    default_device().run(ROUTE, setting, sizes, [ids], plan)
    return plan.reshape(-1)


def assert_equal(found: np.ndarray, ids: np.ndarray, experts: int, tile_m: int) -> None:
    layout = PlanLayout(experts, ids.shape[1], ids.shape[0])
    assert_same_plan(found, reference.plan(ids, experts, tile_m), layout)


@pytest.mark.parametrize(
    "ids_of",
    [
        pytest.param(some_slots, id="padding between pairs"),
        pytest.param(among(0, 199), id="only the first and the last expert"),
        pytest.param(same(7, 7, 7), id="one expert, more pairs than a batch of the work-group"),
    ],
)
@pytest.mark.parametrize(("tile_m", "route_size"), [(16, 32), (16, 64), (64, 128), (32, 1024)])
def test_plan_for_other_tiles_and_work_groups(
    tile_m: int, route_size: int, ids_of: Ids, rng: np.random.Generator
) -> None:
    """32 work-items take 200 experts in 7 rounds, 1024 in one; row tiles follow tile_m."""
    ids = ids_of(rng, 100, 200, 3).astype(np.int32)
    assert_equal(route(ids, 200, config("grid", tile_m=tile_m, route_size=route_size)), ids, 200, tile_m)


def test_every_kind_of_id_in_one_plan(rng: np.random.Generator) -> None:
    """Experts, padding, absent rows before and behind the last token, and ids that are no expert's."""
    ids = rng.integers(-5, 14, (257, 4)).astype(np.int32)
    ids[40:50] = -2
    ids[239] = -1  # the last token is padding, and counts
    ids[240:] = -2
    assert_equal(route(ids, 8, config("grid")), ids, 8, 32)
    extreme = np.array([[2**31 - 1, -(2**31)], [8, -3], [0, 7], [-2, -2]], np.int32)
    assert_equal(route(extreme, 8, config("grid")), extreme, 8, 32)


@pytest.mark.parametrize("before", [0, -1, 1, 2**31 - 1, POISON_INT])
def test_plan_and_tickets_do_not_depend_on_what_the_buffer_held(before: int, rng: np.random.Generator) -> None:
    ids = rows_of(31, 32, 33, 0, 1)(rng, 97, 5, 1).astype(np.int32)
    assert_equal(route(ids, 5, config("ticket"), before), ids, 5, 32)


def test_a_route_makes_used_tickets_new_again(rng: np.random.Generator) -> None:
    """As on a GPU, where the plan's buffer is the one that the last inference's GEMMs took tickets from."""
    ids = rng.integers(0, 8, (33, 2)).astype(np.int32)
    plan = route(ids, 8, config("ticket"))
    used = plan.copy()
    used[[H_WIDE, D_WIDE, TICKET_GATE_UP, TICKET_DOWN]] = 1000
    again = np.ascontiguousarray(used.reshape(-1, 1, 1, 1))
    sizes = {"experts": 8, "top_k": 2, "max_tokens": 33}
    default_device().run(ROUTE, config("ticket"), sizes, [ids], again)
    np.testing.assert_array_equal(again.reshape(-1), plan)


@pytest.mark.parametrize("experts", [1, 129, 512, 2048])
def test_plan_with_more_experts_than_work_items(experts: int, rng: np.random.Generator) -> None:
    """Work-groups of 64: the scan carries its sum from one round to the next."""
    ids = rng.integers(0, experts, (1000, 10)).astype(np.int32)
    assert_equal(route(ids, experts, config("grid", route_size=64)), ids, experts, 32)


@pytest.mark.parametrize("tokens", [33, 1000])
def test_a_plan_with_ids_read_ahead_as_on_a_gpu(tokens: int, rng: np.random.Generator) -> None:
    """On a CPU fewer are read together."""
    ids = rng.integers(-2, 60, (tokens, 3)).astype(np.int32)
    layout, setting = PlanLayout(60, 3, tokens), config("ticket", route_size=64)
    sizes = {"experts": 60, "top_k": 3, "max_tokens": tokens}
    shape = (layout.size, 1, 1, 1)
    text = program(ROUTE, setting, sizes, [(ids.shape, "int32")], (shape, "int32"))
    assert text.count("#ifdef cl_intel_vec_len_hint") == 1
    text = text.replace("#ifdef cl_intel_vec_len_hint", "#if 0")
    plan = np.full(shape, POISON_INT, np.int32)
    default_device().launch(text, ROUTE.entry, work_size(ROUTE, setting, sizes), [ids], plan)
    assert_equal(plan.reshape(-1), ids, 60, 32)


def test_plans_repeat_exactly(rng: np.random.Generator) -> None:
    """Atomics count rows, but the order of rows is the order of pairs."""
    block = random_block(rng, tokens=1000, experts=8, top_k=2, hidden=2, intermediate=2, precision="f32")
    plans = [block.plan(default_device(), config("ticket")) for _ in range(5)]
    assert all(np.array_equal(plan, plans[0]) for plan in plans)
