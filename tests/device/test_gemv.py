"""The micro-kernel "gemv" against the float64 oracle: few rows, every format, f32 and f16 buffers.

It computes in fp32 with weights that are not rounded, so the bounds are those of the other kernels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from blocks import Block, Results, guarded, random_block, random_ids, same_bits
from kernel_cases import GPT_OSS, config, hot
from micro_kernels import assert_same, check_results

from ov_moe.devices.opencl import default_device
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.micro import Gemv

HALF = np.float16
SCHEDULES = ("grid", "ticket", "stride")
GROUPS_OF_32 = {"precision": "u4", "group": 32, "zero": True}


def gemv(schedule: str, groups: int = 7, subgroup: int = 8, **more: int) -> KernelConfig:
    return config(schedule, groups, Gemv(subgroup=subgroup, **more))


def check(block: Block, setting: KernelConfig) -> Results:
    results = block.run_all(default_device(), setting)
    check_results(block, results)
    return results


def block_of(rng: np.random.Generator, tokens: int = 11, experts: int = 8, **options: Any) -> Block:
    return random_block(rng, tokens=tokens, experts=experts, **{"top_k": 2, "dtype": HALF, **options})


@pytest.mark.parametrize(("tokens", "subgroup"), [(1, 8), (2, 16), (3, 8), (4, 16), (5, 8), (8, 16), (9, 8), (17, 16)])
def test_any_number_of_rows(subgroup: int, tokens: int, rng: np.random.Generator) -> None:
    """One expert has all of them: each of the variants of 1, 2, 4 and 8 rows, and a tile behind another."""
    ids = np.zeros((tokens, 1), np.int32)
    options = {"top_k": 1, "ids": ids, "hidden": 96, "intermediate": 64, "max_tokens": 19, **GROUPS_OF_32}
    check(block_of(rng, tokens, 1, **options), gemv("ticket", subgroup=subgroup))


@pytest.mark.parametrize(
    ("experts", "tokens", "schedule"),
    [(1, 2, "stride"), (8, 0, "ticket"), (8, 100, "grid"), (60, 33, "ticket"), (128, 1, "grid"), (512, 100, "stride")],
)
def test_tokens_and_experts(experts: int, tokens: int, schedule: str, rng: np.random.Generator) -> None:
    """Padded slots, absent tokens behind the last one, and experts without rows."""
    top_k = min(experts, 4)
    ids = random_ids(rng, tokens, experts, top_k)
    ids[rng.random(ids.shape) < 0.2] = -1
    options = {"top_k": top_k, "ids": ids, "hidden": 64, "intermediate": 32, "max_tokens": tokens + 3, **GROUPS_OF_32}
    check(block_of(rng, tokens, experts, **options), gemv(schedule))


@pytest.mark.parametrize(
    ("hidden", "intermediate", "dtype"),
    [(1, 2, HALF), (2, 1, np.float32), (33, 65, HALF), (64, 32, np.float32), (96, 130, HALF), (288, 544, np.float32)],
)
def test_sizes_that_no_tile_divides(hidden: int, intermediate: int, dtype: Any, rng: np.random.Generator) -> None:
    """K behind its end is neither read nor multiplied, columns behind N are not stored; several steps of K."""
    sizes = {"hidden": hidden, "intermediate": intermediate, "dtype": dtype, "max_tokens": 12}
    check(block_of(rng, precision=("u8", "f16", "u8"), zero=True, **sizes), gemv("grid", subgroup=16))


FORMATS = {
    "f16": {"precision": "f16"},
    "f32": {"precision": "f32"},
    "u8 channel": {"precision": "u8", "zero": True},
    "u8 groups": {"precision": "u8", "group": 32, "zero": True},
    "u8 symmetric": {"precision": "u8", "group": 64},
    "i8 channel": {"precision": "i8"},
    "i8 groups": {"precision": "i8", "group": 32, "zero": True},
    "u4 channel": {"precision": "u4"},
    "u4 groups": {"precision": "u4", "group": 96, "zero": True},
    "u4 groups of 32": GROUPS_OF_32,
    "u4 groups that no load fits": {"precision": "u4", "group": 16, "zero": True},
    "u4 groups of 48": {"precision": "u4", "group": 48, "zero": True},
    "i4 channel": {"precision": "i4", "zero": True},
    "i4 groups": {"precision": "i4", "group": 64},
    "f4e2m1": {"precision": "f4e2m1", "group": 32},
    "f4e2m1 by twos": {"precision": "f4e2m1", "group": 2},
    "scales in f32": {"scale_dtype": np.float32, **GROUPS_OF_32},
    "one format each": {"precision": ("u8", "i4", "f16")},
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((n, HALF) for n in FORMATS), *((n, np.float32) for n in ("u4 groups", "i8 groups"))],
)
def test_formats(name: str, dtype: Any, rng: np.random.Generator) -> None:
    """K a multiple of 32, where 16 bytes are read at a time, as long as groups allow it; 576 is two steps and a bit."""
    check(block_of(rng, hidden=576, intermediate=192, dtype=dtype, **FORMATS[name]), gemv("ticket"))


@pytest.mark.parametrize(
    "name", [name for name, options in FORMATS.items() if options.get("group", 0) < 3 and name != "f16"][::2]
)
def test_formats_where_16_bytes_do_not_fit(name: str, rng: np.random.Generator) -> None:
    """K even but no multiple of 32: weights are read by twos."""
    check(block_of(rng, hidden=70, intermediate=34, **FORMATS[name]), gemv("grid"))


@pytest.mark.parametrize(
    ("kinds", "layout"),
    [(("f4e2m1", "f4e2m1"), "interleaved"), (("u4", "u8"), "halves"), (("f16", "i4"), "interleaved")],
    ids=str,
)
def test_fused_layouts_with_biases(kinds: tuple[str, str], layout: str, rng: np.random.Generator) -> None:
    """GPT-OSS: both projections in one matrix, biases, clamps."""
    options = {"layout": layout, "activation": GPT_OSS, "biases": HALF, "group": 32, "precision": kinds}
    check(block_of(rng, hidden=96, intermediate=160, zero=kinds[0] == "u4", **options), gemv("stride"))


@pytest.fixture(params=["u4", "f16"])
def crowd(request: pytest.FixtureRequest, rng: np.random.Generator) -> Block:
    """100 tokens with a hot expert and several row tiles; I is no multiple of anything."""
    kinds = {"u4": {"hidden": 128, "intermediate": 66, "zero": True}, "f16": {"hidden": 65, "intermediate": 47}}
    options = {"precision": request.param, "ids": hot(rng, 100, 20, 3), "max_tokens": 110, **kinds[request.param]}
    return random_block(rng, tokens=100, experts=20, top_k=3, dtype=HALF, **options)


def test_schedules_agree_bit_for_bit(crowd: Block) -> None:
    """Whatever group computes a tile, and however often; one group, seven, and more than there are tasks."""
    expected = check(crowd, gemv("grid"))
    for schedule in SCHEDULES:
        for groups in (1, 7, 400):
            assert_same(crowd.run_all(default_device(), gemv(schedule, groups)), expected)


def test_rows_one_by_one_as_on_a_gpu(crowd: Block) -> None:
    """The CPU's compiler gets a loop over rows instead; the sums are the same."""
    setting, spec, device = gemv("ticket"), crowd.spec, default_device()
    expected = crowd.run_all(device, setting)

    def written_out(text: str, inputs: list[np.ndarray], output: np.ndarray) -> Any:
        assert text.count("cl_intel_vec_len_hint") == 1
        return guarded(text.replace("cl_intel_vec_len_hint", "no_such_extension"), inputs, output)

    rows = spec.plan_layout.max_rows
    inputs, shape = crowd.gate_up_inputs(expected.plan), (rows, spec.intermediate)
    h = crowd.run_stage(device, setting, spec.gate_up_stage, inputs, shape, HALF, arrange=written_out)
    assert same_bits(h.reshape(-1)[: rows * spec.intermediate].reshape(shape), expected.h)


@pytest.mark.parametrize("rows", [1, 4])
def test_a_row_does_not_depend_on_the_tile_beside_it(rows: int, crowd: Block) -> None:
    """Lower tiles: other rows beside it, another variant. Sub-groups of 16: the same sums too."""
    expected = crowd.run_all(default_device(), gemv("ticket"))
    assert_same(crowd.run_all(default_device(), gemv("ticket", tile_m=rows, subgroup=16)), expected)


def test_a_token_does_not_depend_on_its_company(crowd: Block) -> None:
    """Alone, its expert's tile has one row; among others it is one of eight. Nor on its place among the tokens."""
    expected = crowd.run(default_device(), gemv("ticket"))
    for token in (0, 57, 99):
        ids = np.full_like(crowd.ids, -2)
        ids[0] = crowd.ids[token]
        x, weights = crowd.x.copy(), crowd.weights.copy()
        x[0], weights[0] = crowd.x[token], crowd.weights[token]
        alone = replace(crowd, x=x, ids=ids, weights=weights).run(default_device(), gemv("ticket"))
        assert same_bits(alone[0], expected[token])
    order = np.append(np.random.default_rng(3).permutation(100), np.arange(100, 110))
    moved = replace(crowd, x=crowd.x[order], ids=crowd.ids[order], weights=crowd.weights[order])
    assert same_bits(moved.run(default_device(), gemv("ticket")), expected[order])


def test_a_nan_stays_in_its_row(crowd: Block) -> None:
    expected = crowd.run(default_device(), gemv("ticket"))
    x = crowd.x.copy()
    x[41] = np.nan
    found = replace(crowd, x=x).run(default_device(), gemv("ticket"))
    assert np.isnan(found[41]).all()
    assert same_bits(np.delete(found, 41, axis=0), np.delete(expected, 41, axis=0))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"tile_m": 3}, "tile_m 1, 2, 4, 8 and sub-groups of 8 or 16, not tile_m 3 and subgroup 8."),
        ({"tile_m": 16}, "not tile_m 16"),
        ({"subgroup": 32}, "not tile_m 8 and subgroup 32"),
        ({"tile_n": 16}, "tile_n 16 must be a multiple of 32 that divides local_size 128."),
        ({"tile_n": 96}, "tile_n 96 must be"),
        ({"local_size": 96}, "divides local_size 96"),
        ({"tile_k": 64}, "tile_k 64 must be a multiple of 32 for each of the 4 slices of K"),
    ],
)
def test_configurations_that_cannot_run_are_refused(values: dict[str, int], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        gemv("ticket", **values)


@pytest.mark.parametrize(
    "tiles",
    [
        {"tile_n": 128},
        {"tile_n": 32, "tile_k": 512},
        {"local_size": 64, "tile_k": 64},
        {"tile_k": 512},
        {"local_size": 256, "tile_k": 512, "tile_n": 128},
    ],
    ids=str,
)
def test_other_tiles(tiles: dict[str, int], crowd: Block) -> None:
    """One slice to eight. Their number is part of the order of the sums."""
    check(crowd, gemv("ticket", **tiles))


def test_an_infinite_scale_is_not_clamped_away(rng: np.random.Generator) -> None:
    options = {
        "precision": "u4",
        "group": 32,
        "layout": "interleaved",
        "activation": GPT_OSS,
        "scale_dtype": np.float32,
    }
    block = random_block(rng, tokens=5, experts=3, top_k=2, hidden=64, intermediate=32, **options)
    block.gate.arrays[1][block.ids[0, 0], 0] = np.inf
    block.x[:5] = np.abs(block.x[:5])  # with weights from 0 up: gate is infinite, which a clamp would make 7
    y = block.run(default_device(), gemv("ticket"))
    hit = (block.ids == block.ids[0, 0]).any(axis=1)
    assert np.isnan(y[hit]).all()
    assert np.isfinite(y[~hit]).all()


def test_scales_that_only_the_sums_bring_back(rng: np.random.Generator) -> None:
    """e8m0 goes up to 2^127: 2^14 times a scale, by which e2m1 stands too low in f16, would be infinite."""
    sizes = {"tokens": 5, "experts": 3, "top_k": 2, "hidden": 64, "intermediate": 32}
    block = random_block(rng, precision="f4e2m1", group=32, **sizes)
    for part in (block.gate, block.up):
        part.arrays[1][...] = part.arrays[1].astype(int) + 118
        part.dense[...] = np.ldexp(part.dense, 118)
    check(replace(block, x=np.ldexp(block.x, -118)), gemv("ticket"))
