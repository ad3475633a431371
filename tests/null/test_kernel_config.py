"""From the user's switch and a device to configuration, work sizes and the plan's layout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from kernel_cases import config

from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench.mma import Mma
from ov_moe.kernels.attributes import projection_attributes
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.choose import AUTO_BALANCE_EXPERTS, choose_config, choose_schedule
from ov_moe.kernels.compose import defines
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.geometry import WorkSize, local_size, work_size
from ov_moe.kernels.micro import Dpas, Fma, Gemv
from ov_moe.kernels.plan import HEADER, PlanLayout
from ov_moe.kernels.stages import COMBINE, DOWN, GATE_UP, ROUTE, STAGES
from ov_moe.spec import ProjectionSpec

SIZES = {"experts": 60, "top_k": 4, "max_tokens": 100, "hidden": 130, "intermediate": 47}


@pytest.mark.parametrize(
    ("balance", "experts", "schedule"),
    [
        ("off", 1, "grid"),
        ("off", 2048, "grid"),
        ("on", 1, "pool"),
        ("on", 2048, "pool"),
        ("auto", 1, "grid"),
        ("auto", AUTO_BALANCE_EXPERTS - 1, "grid"),
        ("auto", AUTO_BALANCE_EXPERTS, "pool"),
        ("auto", 2048, "pool"),
    ],
)
def test_schedule(balance: str, experts: int, schedule: str) -> None:
    assert choose_schedule(balance, experts) == schedule
    assert choose_config(balance, experts, 16).schedule == schedule


def test_upstreams_limit_is_64_experts() -> None:
    assert AUTO_BALANCE_EXPERTS == 64


@pytest.mark.parametrize("balance", ["yes", "ON", "", True, None])
def test_another_word_for_balance_is_refused(balance: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        choose_schedule(balance, 8)
    assert str(caught.value) == f"balance is {balance!r}, it must be 'auto', 'on' or 'off'."


def test_groups_follow_the_device_unless_given() -> None:
    assert choose_config("on", 8, 32).groups == 64
    assert choose_config("on", 8, 32, groups=7).groups == 7
    assert choose_config("on", 8, 32, fetch="stride").fetch == "stride"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"groups": 0}, "A pool of 0 work-groups cannot run: ask for at least 1."),
        ({"groups": -1}, "A pool of -1 work-groups cannot run: ask for at least 1."),
        ({"fetch": "random"}, "fetch is 'random', it must be 'ticket' or 'stride'."),
    ],
)
def test_choices_that_cannot_run_are_refused(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        choose_config("on", 8, 32, **wrong)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "tiles",
    [{"tile_m": 4}, {"tile_m": 33}, {"local_size": 100}, {"local_size": 1024}, {"tile_n": 48}, {"tile_k": 31}],
    ids=str,
)
def test_tiles_that_the_micro_kernel_cannot_share_out_are_refused(tiles: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match="tile_"):
        config("grid", **tiles)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Fma(tile_m=0), "tile_m is 0, it must be at least 1."),
        (lambda: Fma(tile_n=-64), "tile_n is -64, it must be at least 1."),
        (lambda: Mma(tile_k=0), "tile_k is 0, it must be at least 1."),
        (lambda: Gemv(local_size=0), "local_size is 0, it must be at least 1."),
        (lambda: Dpas(subgroup_rows=0), "subgroup_rows is 0, it must be at least 1."),
        (
            lambda: KernelConfig("grid", "ticket", 1, route_size=0),
            "route_size is 0, it must be a positive multiple of 32.",
        ),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_values_that_mean_nothing_are_refused(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make()
    assert str(caught.value) == sentence


def test_definitions_say_all_that_the_kernels_are_built_with() -> None:
    setting = KernelConfig("pool", "stride", 9, Fma(tile_m=16, tile_n=32, tile_k=8, local_size=64))
    assert setting.defines() == {"TILE_M": "16", "TILE_N": "32", "TILE_K": "8", "SCHEDULE": "stride"}
    matrix = KernelConfig("pool", "stride", 9, Dpas(subgroup=16, tile_n=128, local_size=128)).defines()
    assert {name: matrix[name] for name in ("SUBGROUP", "SUBGROUP_ROWS", "DPAS_EMULATION", "F16_BIAS_i4")} == {
        "SUBGROUP": "16",
        "SUBGROUP_ROWS": "32",
        "DPAS_EMULATION": "0",
        "F16_BIAS_i4": "1032",
    }
    assert KernelConfig("pool", "ticket", 9).defines()["SCHEDULE"] == "ticket"
    assert KernelConfig("grid", "ticket", 9).defines()["SCHEDULE"] == "grid"


def test_grid_covers_every_place_that_a_tile_could_have() -> None:
    """ceil(2 I / tile_n) x ceil(TM / tile_m) x E, as upstream's."""
    setting = config("grid", 999)
    assert work_size(GATE_UP, setting, SIZES).groups == (2, 4, 60)
    assert work_size(DOWN, setting, SIZES).groups == (3, 4, 60)
    assert work_size(GATE_UP, config("grid", tile_m=16, tile_n=32), SIZES).groups == (3, 7, 60)
    assert work_size(DOWN, config("grid", tile_m=16, tile_n=32), SIZES).groups == (5, 7, 60)


@pytest.mark.parametrize("schedule", ["ticket", "stride"])
@pytest.mark.parametrize("changed", [{}, {"experts": 2048}, {"max_tokens": 1}, {"hidden": 7168}], ids=str)
def test_pool_is_its_groups_whatever_the_block(schedule: str, changed: dict[str, int]) -> None:
    for stage in (GATE_UP, DOWN):
        assert work_size(stage, config(schedule, 11), {**SIZES, **changed}).groups == (11, 1, 1)


def test_route_has_a_group_for_4096_pairs_and_combine_a_work_item_for_8_columns() -> None:
    for schedule in ("grid", "ticket"):
        setting = config(schedule, 11)
        for tokens, groups in ((1, 1), (100, 1), (2000, 1), (2049, 2), (16384, 16), (65536, 16)):
            route = work_size(ROUTE, setting, {**SIZES, "max_tokens": tokens, "top_k": 4})
            assert route == WorkSize((groups, 1, 1), 256), tokens
        assert work_size(COMBINE, setting, SIZES) == WorkSize((-(-100 * -(-SIZES["hidden"] // 8) // 256), 1, 1), 256)
        assert work_size(COMBINE, setting, {**SIZES, "max_tokens": 65536}).groups == (1056, 1, 1)


def test_local_size_is_the_stages_own() -> None:
    setting = config("grid", local_size=64, route_size=512)
    assert [local_size(stage, setting) for stage in (ROUTE, GATE_UP, DOWN, COMBINE)] == [512, 64, 64, 256]
    for stage in (ROUTE, GATE_UP, DOWN, COMBINE):
        assert dict(defines(stage, setting))["LOCAL_SIZE"] == str(local_size(stage, setting))


@pytest.mark.parametrize("size", [0, -32, 16, 48])
def test_route_takes_work_items_by_32(size: int) -> None:
    with pytest.raises(InvalidInputError, match=f"route_size is {size}"):
        config("grid", route_size=size)


def test_work_sizes_count_items_and_groups() -> None:
    size = WorkSize((3, 4, 5), 128)
    assert size.global_size == (384, 4, 5)
    assert size.total_groups == 60
    assert size.union(WorkSize((9, 1, 5), 128)) == WorkSize((9, 4, 5), 128)


def test_the_parts_of_a_plan_follow_one_another() -> None:
    layout = PlanLayout(experts=5, top_k=3, max_tokens=7)
    assert layout.max_rows == 21
    assert layout.row_offset == HEADER == 48
    assert layout.tile_offset == 48 + 6
    assert layout.pair_of_row == 54 + 6
    assert layout.row_of_pair == 60 + 21
    assert layout.size == 81 + 21


def test_a_view_shows_what_is_written_and_shares_memory() -> None:
    layout = PlanLayout(experts=2, top_k=2, max_tokens=4)
    plan = np.arange(layout.size, dtype=np.int32)
    plan[:3] = 3, 5, 2
    view = layout.view(plan)
    assert (view.tokens, view.live_rows, view.tiles) == (3, 5, 2)
    assert view.row_offset.tolist() == [48, 49, 50]
    assert view.tile_offset.tolist() == [51, 52, 53]
    assert view.pair_of_row.tolist() == [54, 55, 56, 57, 58]
    assert view.row_of_pair.tolist() == [62, 63, 64, 65, 66, 67]
    assert np.shares_memory(view.row_of_pair, plan)


@pytest.mark.parametrize("name", ["experts", "top_k", "max_tokens"])
def test_a_plan_for_nothing_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        PlanLayout(**{"experts": 1, "top_k": 1, "max_tokens": 1, name: 0})
    assert str(caught.value) == f"{name} of a plan is 0, it must be at least 1."


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (ProjectionSpec("u8", 4, 10, 4), "must be even and divide K = 10"),
        (ProjectionSpec("u8", 4, 9, 3), "must be even and divide K = 9"),
        (ProjectionSpec("u4", 4, 9, 9), "K must be even"),
        (ProjectionSpec("u8", 4, 8), "integers have scales"),
        (ProjectionSpec("f16", 4, 8, 8), "make no sense"),
        (ProjectionSpec("f32", 4, 8, 0, True), "make no sense"),
    ],
)
def test_weights_that_the_kernels_cannot_read_are_refused(spec: ProjectionSpec, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^gate: .*{problem}"):
        projection_attributes("gate", spec)


def test_a_block_carries_every_attribute_that_a_stage_names() -> None:
    gate, down = ProjectionSpec("u4", 6, 8, 4, True), ProjectionSpec("f16", 8, 6)
    attributes = BlockSpec(2, 1, 3, gate, gate, down).attributes()
    assert all(name in attributes for stage in STAGES for name in stage.attributes)
    assert attributes["gate_format"] == attributes["up_zero"] == "u4"
    assert (attributes["down_format"], attributes["down_scale"], attributes["down_group"]) == ("float", "none", 0)


def test_projections_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="gate and up must agree and down must be their transpose"):
        BlockSpec(2, 1, 3, ProjectionSpec("f16", 6, 8), ProjectionSpec("f16", 6, 8), ProjectionSpec("f16", 6, 8))
