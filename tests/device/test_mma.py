"""The micro-kernel "mma" against the float64 oracle: on NVIDIA's tensor cores, elsewhere its PTX in OpenCL C.

Its stated rounding is one rounding of each weight to f16: the oracle takes the weights so rounded, and then the bounds
of the other kernels hold as they are, for products of f16 are exact in fp32.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bounds
import numpy as np
import pytest
from blocks import Block, Results, poison, random_block, same_bits
from kernel_cases import GPT_OSS, emulated, hot, same, with_micro
from micro_kernels import check_results, rounded

from ov_moe.devices.opencl import default_device
from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench.mma import Mma, can_pack
from ov_moe.kernel_bench.pack import pack_projection, pack_weights, unpack_weights
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.choose import choose_config
from ov_moe.kernels.config import KernelConfig
from ov_moe.spec import SWIGLU, DeviceInfo, ProjectionSpec, Workload

HALF = np.float16
SCHEDULES = ("grid", "ticket", "stride")


def workload(rows: float, precision: Any = "u4") -> Workload:
    """So many rows an expert on average."""
    return Workload(int(rows * 4), 8, 2, 96, 64, precision)


def mma(schedule: str, rows: float, packed: bool = False, **more: Any) -> KernelConfig:
    """The tile for so many rows an expert, in a pool of 7 groups."""
    precision = more.pop("precision", "u4")
    fetch = "stride" if schedule == "stride" else "ticket"
    base = choose_config("off" if schedule == "grid" else "on", 8, 1, fetch)
    chosen = Mma.placed(base, workload(rows, precision), DeviceInfo(1), packed=packed)
    return replace(chosen, groups=more.pop("groups", 7), micro=replace(chosen.micro, **more))


# One of each branch of Mma.tiles.
TILES = {
    "decode": mma("ticket", 1),
    "decode, packed": mma("ticket", 1, True),
    "few": mma("grid", 8),
    "few, packed": mma("stride", 8, True),
    "prefill, packed": mma("ticket", 50, True),
    "wide": mma("stride", 200),
    "wide, packed": mma("grid", 200, True),
    "large": mma("ticket", 600),
    "large, packed": mma("ticket", 600, True),
}


def run(block: Block, setting: KernelConfig) -> Results:
    device = default_device()
    return block.run_all(device, setting if device.info.vendor == "nvidia" else emulated(setting))


def check(block: Block, setting: KernelConfig) -> Results:
    assert Mma.refuses(block.spec, "f16") is None
    results = run(block, setting)
    check_results(rounded(block), results)
    return results


def block_of(rng: np.random.Generator, tokens: int = 33, experts: int = 8, **options: Any) -> Block:
    return random_block(rng, **{"tokens": tokens, "experts": experts, "top_k": 2, "dtype": HALF, **options})


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("tokens", [1, 2, 33, 100])
def test_any_number_of_tokens(tile: str, tokens: int, rng: np.random.Generator) -> None:
    """Three experts: tiles of 1 to 64 rows, every number of fragments with rows in them."""
    sizes = {"hidden": 96, "intermediate": 64, "precision": "u4", "group": 32, "zero": True, "max_tokens": 103}
    check(block_of(rng, tokens, 3, **sizes), TILES[tile])


@pytest.mark.parametrize("tile", ["decode, packed", "few", "large, packed"])
def test_no_token_at_all(tile: str, rng: np.random.Generator) -> None:
    block = block_of(rng, 0, hidden=96, intermediate=64, precision="u4", group=32, max_tokens=5)
    results = run(block, TILES[tile])
    for array in (results.h, results.d, results.y):
        assert same_bits(array, np.full_like(array, poison(array.dtype)))


@pytest.mark.parametrize(
    ("tile", "hidden", "intermediate"),
    [("decode", 416, 96), ("few, packed", 32, 32), ("wide, packed", 64, 160), ("large", 96, 416)],
)
def test_sizes_that_no_tile_divides(tile: str, hidden: int, intermediate: int, rng: np.random.Generator) -> None:
    """K behind its end is copied as zeros, columns behind N are not stored."""
    check(block_of(rng, hidden=hidden, intermediate=intermediate, precision="u4", group=32, zero=True), TILES[tile])


@pytest.mark.parametrize(
    ("precision", "group", "zero"),
    [
        ("u4", 32, True),
        ("u4", 64, False),
        ("u4", 0, True),
        ("i4", 128, False),
        ("i4", 32, True),
        ("i4", 0, False),
        ("f4e2m1", 32, False),
        ("f4e2m1", 0, False),
        ("u8", 64, True),
        ("u8", 0, False),
        ("i8", 32, True),
        ("i8", 0, False),
        ("f16", 0, False),
        (("u4", "u4", "f16"), 32, True),
        (("f4e2m1", "f4e2m1", "i8"), 32, False),
    ],
    ids=str,
)
def test_weight_formats(precision: Any, group: int, zero: bool, rng: np.random.Generator) -> None:
    """Every format as stored, and packed where it can be: then with the same bits."""
    block = block_of(rng, hidden=256, intermediate=128, precision=precision, group=group, zero=zero)
    first = precision if isinstance(precision, str) else precision[0]
    stored = check(block, mma("ticket", 8, precision=first))
    if can_pack(block.spec):
        packed = check(block, mma("ticket", 8, True))
        assert all(same_bits(a, b) for a, b in zip(stored, packed, strict=True))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize("precision", ["u4", "f4e2m1"])
def test_gate_and_up_in_one_matrix(precision: Any, layout: Any, packed: bool, rng: np.random.Generator) -> None:
    """As in GPT-OSS: biases, clamp, slope and offset."""
    options = {"layout": layout, "activation": GPT_OSS, "biases": HALF}
    block = block_of(rng, hidden=96, intermediate=160, precision=precision, group=32, **options)
    for tile in ("decode", "few", "large"):
        check(block, TILES[f"{tile}, packed" if packed else tile])


@pytest.mark.parametrize(
    ("experts", "tile"), [(1, "large, packed"), (60, "decode, packed"), (128, "few"), (512, "decode")]
)
def test_experts(experts: int, tile: str, rng: np.random.Generator) -> None:
    """Most of them empty from 128 on."""
    sizes = {"hidden": 64, "intermediate": 32, "precision": "i4", "group": 32}
    check(block_of(rng, 33, experts, top_k=min(experts, 2), **sizes), TILES[tile])


@pytest.mark.parametrize("tile", ["decode, packed", "wide", "large, packed"])
def test_routings(tile: str, rng: np.random.Generator) -> None:
    """All tokens on the same experts; one hot expert; padded tokens and slots."""
    sizes = {"hidden": 96, "intermediate": 64, "precision": "u4", "group": 32}
    check(block_of(rng, 100, ids=same(3, 7)(rng, 100, 8, 2), **sizes), TILES[tile])
    check(block_of(rng, 200, 60, ids=hot(rng, 200, 60, 2), **sizes), TILES[tile])
    ids = np.where(rng.random((90, 2)) < 1 / 3, -1, rng.integers(0, 8, (90, 2))).astype(np.int32)
    check(block_of(rng, 90, ids=ids, max_tokens=97, **sizes), TILES[tile])


@pytest.mark.parametrize("packed", [False, True])
def test_schedules_and_groups_give_the_same_bits(packed: bool, rng: np.random.Generator) -> None:
    block = block_of(rng, 100, 8, hidden=96, intermediate=160, precision="u4", group=32, zero=True)
    results = [
        run(block, mma(schedule, 8, packed, groups=groups))
        for schedule, groups in (("grid", 7), ("ticket", 1), ("ticket", 400), ("stride", 5))
    ]
    assert all(same_bits(result.y, results[0].y) for result in results)


def test_scales_in_f32_are_rounded_to_f16(rng: np.random.Generator) -> None:
    sizes = {"hidden": 96, "intermediate": 64, "precision": "u4", "group": 32, "zero": True}
    block = block_of(rng, scale_dtype=np.float32, **sizes)
    whole = [part for part in (block.gate, block.up, block.down) if part is not None]
    exact = [replace(part, arrays=[part.arrays[0], part.arrays[1].astype(HALF), part.arrays[2]]) for part in whole]
    for packed in (False, True):
        found = run(block, mma("ticket", 8, packed)).y
        half = run(replace(block, gate=exact[0], up=exact[1], down=exact[2]), mma("ticket", 8, packed)).y
        assert same_bits(found, half)


def test_f32_buffers_take_fma_in_the_same_tiles(rng: np.random.Generator) -> None:
    block = random_block(
        rng, tokens=33, experts=8, top_k=2, hidden=96, intermediate=64, precision="u4", group=32, zero=True
    )
    bounds.error(block, run(block, mma("ticket", 8)).y).check()


@pytest.mark.parametrize("precision", ["u4", "i4", "f4e2m1"])
def test_packing_loses_nothing(precision: Any, rng: np.random.Generator) -> None:
    stored = rng.integers(0, 256, (3, 24, 48), np.uint8)
    packed = pack_weights(stored, precision)
    assert packed.shape == (3, 3, 24, 16)
    np.testing.assert_array_equal(unpack_weights(packed, precision), stored)


def test_packed_words_hold_scale_and_zero_point() -> None:
    spec = ProjectionSpec("i4", 2, 64, 32, True)
    scale = np.array([[[0.5, 1.5], [2.0, -3.0]]], HALF)
    zero = np.array([0x8F, 0x70], np.uint8)  # -1, -8, 0, 7
    _, words = pack_projection(spec, np.zeros((1, 2, 32), np.uint8), scale, zero)
    halves = words.view(np.uint32).reshape(1, 2, 2)
    np.testing.assert_array_equal((halves & 0xFFFF).astype(np.uint16).view(HALF), scale.transpose(0, 2, 1))
    np.testing.assert_array_equal((halves >> 16).astype(np.uint16).view(HALF), [[[1031, 1032], [1024, 1039]]])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tile_m": 24}, "tile_m 24 must be a multiple of 16"),
        ({"tile_n": 96}, "two, four, eight"),
        ({"tile_k": 48}, "tile_k 48 must be a power of two"),
        ({"local_size": 64}, "local_size 64 must be 32 work-items for each of 1 x 4 x 1"),
        ({"stages": 1}, "stages 1 at least 2"),
        (
            {"packed": True, "warps_m": 3, "warps_n": 1, "tile_m": 48, "tile_n": 64, "local_size": 96},
            "one of tile_n 64, local_size 96 must divide the other",
        ),
    ],
)
def test_tiles_that_cannot_be_are_refused(change: dict[str, int], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        with_micro(mma("ticket", 8), **change)


@pytest.mark.parametrize(
    ("change", "activations", "sentence"),
    [
        ({}, "f32", "tensor cores take f16"),
        ({"gate": ProjectionSpec("u4", 64, 48, 16), "up": ProjectionSpec("u4", 64, 48, 16)}, "f16", "H = 48"),
        ({"up": ProjectionSpec("u8", 64, 96, 32)}, "f16", "must have one format"),
        ({"gate": ProjectionSpec("f32", 64, 96), "up": ProjectionSpec("f32", 64, 96)}, "f16", "weights are f32"),
        ({"down": ProjectionSpec("u4", 96, 64, 16)}, "f16", "multiples of 32 weights"),
        ({"max_tokens": 2**25}, "f16", "exceed 32-bit"),
    ],
    ids=["f32", "K", "formats", "f32 weights", "groups", "offsets"],
)
def test_blocks_that_cannot_be_served_are_refused(change: dict[str, Any], activations: Any, sentence: str) -> None:
    part = ProjectionSpec("u4", 64, 96, 32)
    values = {"gate": part, "up": part, "down": ProjectionSpec("u4", 96, 64, 32), **change}
    values["down"] = replace(values["down"], n=values["gate"].k)
    spec = BlockSpec(**{"experts": 8, "top_k": 2, "max_tokens": 4, "activation": SWIGLU, **values})
    assert sentence in (Mma.refuses(spec, activations) or "")
