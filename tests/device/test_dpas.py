"""The micro-kernel "dpas" against the float64 oracle, its instruction computed by sub-group broadcasts.

Its stated rounding is one rounding of each weight to f16: the oracle takes the weights so rounded, and then the
bounds of the other kernels hold as they are, for products of f16 are exact in fp32.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bounds
import numpy as np
import pytest
from blocks import Block, Results, random_block, same_bits
from kernel_cases import GPT_OSS, config, hot
from micro_kernels import assert_same, check_results, rounded

from ov_moe.devices.opencl import default_device
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.micro import Dpas, Fma
from ov_moe.kernels.stages import DOWN

HALF = np.float16
SCHEDULES = ("grid", "ticket", "stride")
# Sub-groups of 8 as on Arc: 64 rows x 32 pairs, 8 sub-groups; of 16 as on Xe2: 64 x 64 pairs.
ARC = {"subgroup": 8, "tile_m": 64, "tile_n": 64, "local_size": 64}
XE2 = {"subgroup": 16, "tile_m": 64, "tile_n": 128, "local_size": 128}
SMALL = {"subgroup": 8, "tile_m": 16, "tile_n": 64, "local_size": 32, "subgroup_rows": 8}
FEW = {"subgroup": 8, "tile_m": 8, "tile_n": 64, "local_size": 32, "subgroup_rows": 8}


def dpas(schedule: str, device: dict[str, int], groups: int = 7, **more: int) -> KernelConfig:
    return config(schedule, groups, Dpas(emulation=True, **{**device, **more}))


def check(block: Block, setting: KernelConfig) -> Results:
    results = block.run_all(default_device(), setting)
    check_results(rounded(block), results)
    return results


def block_of(rng: np.random.Generator, tokens: int = 33, experts: int = 8, **options: Any) -> Block:
    return random_block(rng, tokens=tokens, experts=experts, top_k=2, dtype=HALF, **options)


@pytest.mark.parametrize("tokens", [1, 2, 7, 8, 9, 31, 33, 64, 100])
@pytest.mark.parametrize("device", [ARC, XE2], ids=["of 8", "of 16"])
def test_any_number_of_tokens(device: dict[str, int], tokens: int, rng: np.random.Generator) -> None:
    """Three experts: tiles of 1 to 64 rows, every number of fragments with rows in them."""
    block = block_of(rng, tokens, 3, hidden=96, intermediate=64, precision="u4", group=32, zero=True, max_tokens=103)
    check(block, dpas("ticket", device))


@pytest.mark.parametrize(("schedule", "device"), [("grid", ARC), ("ticket", XE2), ("stride", SMALL)])
@pytest.mark.parametrize(("hidden", "intermediate"), [(1, 2), (2, 1), (34, 18), (33, 65), (64, 32), (96, 130)])
def test_sizes_that_no_tile_divides(
    hidden: int, intermediate: int, device: dict[str, int], schedule: str, rng: np.random.Generator
) -> None:
    """K behind its end is neither read nor multiplied, columns behind N are not stored; K % 32 == 0 goes faster."""
    block = block_of(rng, hidden=hidden, intermediate=intermediate, precision="f16", max_tokens=35)
    check(block, dpas(schedule, device))


FORMATS = {
    "f16": {"precision": "f16"},
    "f32": {"precision": "f32"},
    "u8 channel": {"precision": "u8", "zero": True},
    "u8 groups": {"precision": "u8", "group": 32, "zero": True},
    "u8 symmetric": {"precision": "u8", "group": 64},
    "i8 channel": {"precision": "i8"},
    "i8 groups": {"precision": "i8", "group": 32, "zero": True},
    "u4 channel": {"precision": "u4"},
    "u4 groups": {"precision": "u4", "group": 64, "zero": True},
    "u4 groups of 32": {"precision": "u4", "group": 32, "zero": True},
    "u4 groups that no load fits": {"precision": "u4", "group": 16, "zero": True},
    "i4 channel": {"precision": "i4", "zero": True},
    "i4 groups": {"precision": "i4", "group": 64},
    "f4e2m1": {"precision": "f4e2m1", "group": 32},
    "f4e2m1 by twos": {"precision": "f4e2m1", "group": 2},
    "scales in f32": {"precision": "u4", "group": 32, "zero": True, "scale_dtype": np.float32},
    "one format each": {"precision": ("u8", "i4", "f16")},
}


@pytest.mark.parametrize(
    ("name", "device"), [*((n, ARC) for n in FORMATS), *((n, XE2) for n in ("f16", "u8 groups", "i4 groups", "f4e2m1"))]
)
def test_formats(name: str, device: dict[str, int], rng: np.random.Generator) -> None:
    """K a multiple of 32, where whole words are read; groups straddle the tile's K or fill it."""
    check(block_of(rng, hidden=192, intermediate=64, **FORMATS[name]), dpas("ticket", device))


@pytest.mark.parametrize(
    "name", [name for name, options in FORMATS.items() if options.get("group", 0) < 3 and name != "f16"]
)
def test_formats_where_words_do_not_fit(name: str, rng: np.random.Generator) -> None:
    """K even but no multiple of 32: weights are read one by one."""
    check(block_of(rng, hidden=70, intermediate=34, **FORMATS[name]), dpas("grid", ARC))


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize(("kinds", "device"), [(("f4e2m1", "f4e2m1"), ARC), (("u4", "u8"), XE2)])
def test_fused_layouts_with_biases(
    kinds: tuple[str, str], device: dict[str, int], layout: str, rng: np.random.Generator
) -> None:
    """GPT-OSS: both projections in one matrix, biases, clamps."""
    options = {"layout": layout, "activation": GPT_OSS, "biases": HALF, "group": 32, "precision": kinds}
    check(block_of(rng, hidden=96, intermediate=160, zero=kinds[0] == "u4", **options), dpas("stride", device))


@pytest.fixture(params=["u4", "f16"])
def crowd(request: pytest.FixtureRequest, rng: np.random.Generator) -> Block:
    """100 tokens with a hot expert and several row tiles; I is no multiple of anything."""
    kinds = {"u4": {"hidden": 128, "intermediate": 66, "zero": True}, "f16": {"hidden": 65, "intermediate": 47}}
    options = {"precision": request.param, "ids": hot(rng, 100, 20, 3), "max_tokens": 110, **kinds[request.param]}
    return random_block(rng, tokens=100, experts=20, top_k=3, dtype=HALF, **options)


@pytest.mark.parametrize("device", [ARC, XE2], ids=["of 8", "of 16"])
def test_schedules_agree_bit_for_bit(device: dict[str, int], crowd: Block) -> None:
    """Whatever group computes a tile, and however often; one group, seven, and more than there are tasks."""
    expected = check(crowd, dpas("grid", device))
    for schedule in SCHEDULES:
        for groups in (1, 7, 400):
            assert_same(crowd.run_all(default_device(), dpas(schedule, device, groups)), expected)


def test_a_tile_may_be_longer_than_what_is_left_of_k(rng: np.random.Generator) -> None:
    """96 = 64 + 32: the second load of the second step would be the next row's, or nobody's."""
    block = block_of(rng, hidden=96, intermediate=32, precision="f16")
    expected = check(block, dpas("ticket", ARC))
    assert_same(check(block, dpas("ticket", ARC, tile_k=64)), expected)


def test_other_tiles_agree_bit_for_bit(crowd: Block) -> None:
    """A row's sums do not depend on its place, nor on how many columns or rows stand beside it."""
    device, expected = default_device(), crowd.run_all(default_device(), dpas("grid", ARC))
    for setting in (
        dpas("ticket", XE2),
        dpas("ticket", SMALL),
        dpas("ticket", FEW),
        dpas("grid", ARC, tile_k=64),
        dpas("stride", ARC, tile_m=32, local_size=32),
        dpas("ticket", ARC, tile_n=128),
        dpas("ticket", ARC, tile_m=128, local_size=128),
    ):
        assert_same(crowd.run_all(device, setting), expected)


def test_a_token_does_not_depend_on_its_company(crowd: Block) -> None:
    """Alone, its expert's tile has one row; among others it is row 40 of the second tile, say."""
    setting = dpas("ticket", ARC)
    expected = crowd.run(default_device(), setting)
    for token in (0, 57, 99):
        ids = np.full_like(crowd.ids, -2)
        ids[0] = crowd.ids[token]
        x, weights = crowd.x.copy(), crowd.weights.copy()
        x[0], weights[0] = crowd.x[token], crowd.weights[token]
        alone = replace(crowd, x=x, ids=ids, weights=weights).run(default_device(), setting)
        assert same_bits(alone[0], expected[token])


def test_a_nan_stays_in_its_row(crowd: Block) -> None:
    """dpas multiplies 8 rows at a time, and dead rows of local memory hold anything."""
    setting = dpas("ticket", ARC)
    expected = crowd.run(default_device(), setting)
    x = crowd.x.copy()
    x[41] = np.nan
    found = replace(crowd, x=x).run(default_device(), setting)
    assert np.isnan(found[41]).all()
    assert same_bits(np.delete(found, 41, axis=0), np.delete(expected, 41, axis=0))


@pytest.mark.parametrize("precision", ["u4", "i8"])
def test_weights_are_rounded_once(precision: str, rng: np.random.Generator) -> None:
    """Unit rows through down alone give the weights themselves, bit for bit: round_f16((q - zero) * scale)."""
    block = block_of(rng, 1, 1, hidden=64, intermediate=32, precision=precision, group=32, zero=True)
    spec = replace(block.spec, top_k=1, max_tokens=32)
    down = replace(block, spec=spec, ids=np.zeros((32, 1), np.int32))
    plan = down.plan(default_device(), dpas("ticket", ARC))
    inputs = down.down_inputs(np.eye(32, dtype=HALF), plan)
    d = down.run_stage(default_device(), dpas("ticket", ARC), DOWN, inputs, (32, 64), HALF)
    np.testing.assert_array_equal(d, block.down.dense[0].T.astype(HALF))


@pytest.mark.parametrize(("device", "schedule"), [(ARC, "grid"), (XE2, "ticket"), (SMALL, "stride"), (FEW, "ticket")])
def test_f32_buffers_fall_back_to_fma_in_the_same_tiles(
    device: dict[str, int], schedule: str, rng: np.random.Generator
) -> None:
    """The plugin's f32 hint is seen by the kernel alone: neither x nor weights may be rounded to f16."""
    sizes = {"hidden": 70, "intermediate": 34, "precision": ("u4", "i8", "f32"), "zero": True}
    block = random_block(rng, tokens=75, experts=5, top_k=3, dtype=np.float32, **sizes)
    setting = dpas(schedule, device)
    found = block.run_all(default_device(), setting)
    bounds.error(block, found.y).check()
    tile = {name: getattr(setting.micro, name) for name in ("tile_m", "tile_n", "tile_k", "local_size")}
    assert_same(found, block.run_all(default_device(), replace(setting, micro=Fma(**tile))))


@pytest.mark.parametrize("subgroup", [8, 16])
def test_the_chosen_tiles(subgroup: int) -> None:
    """Those of this file."""
    assert Dpas.of(subgroup) == Dpas(**{8: ARC, 16: XE2}[subgroup])
    assert Dpas.of(8, few=True) == Dpas(**FEW)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"subgroup": 32}, "subgroup is 32; dpas has sub-groups of 8 or 16."),
        ({"subgroup_rows": 12}, "subgroup_rows 12"),
        ({"tile_k": 16}, "tile_k 16 of 32"),
        ({"tile_m": 48}, "tile_m 48 must be a multiple of subgroup_rows 32"),
        ({"tile_n": 32}, "tile_n 32 evenly"),
        ({"local_size": 8}, "local_size 8 is 1.0 sub-groups of 8"),
    ],
)
def test_configurations_that_cannot_run_are_refused(values: dict[str, int], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        dpas("ticket", {**ARC, **values})
