"""The kernel cases: a covering choice of sizes, routings and weight formats; each says why it is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from blocks import Block, random_block, random_ids

from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.micro import Fma, MicroKernel
from ov_moe.spec import SWIGLU, Activation, GateUpLayout

Ids = Callable[[np.random.Generator, int, int, int], np.ndarray]
Kinds = str | tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A block of T tokens, E experts, k slots, H x I, and how it is stored, routed and scheduled."""

    why: str
    T: int
    E: int
    k: int
    H: int = 34
    I: int = 18  # noqa: E741
    kinds: Kinds = "f16"
    group: int = 0
    zero: bool = False
    dtype: type = np.float32
    ids: Ids = random_ids
    absent: int = 0
    schedule: str = "ticket"
    options: dict[str, Any] = field(default_factory=dict)

    def block(self, rng: np.random.Generator) -> Block:
        """A fresh random block."""
        return random_block(
            rng,
            tokens=self.T,
            experts=self.E,
            top_k=self.k,
            hidden=self.H,
            intermediate=self.I,
            precision=self.kinds,
            group=self.group,
            zero=self.zero,
            ids=self.ids(rng, self.T, self.E, self.k),
            max_tokens=max(self.T + self.absent, 1),
            dtype=self.dtype,
            **self.options,
        )

    def config(self) -> KernelConfig:
        """A pool of 7 groups, or the grid."""
        return config(self.schedule)

    def __str__(self) -> str:
        kinds = self.kinds if isinstance(self.kinds, str) else "-".join(self.kinds)
        return f"{self.why}: T={self.T} E={self.E} k={self.k} H={self.H} I={self.I} {kinds} {self.schedule}"


def config(
    schedule: str, groups: int = 7, micro: MicroKernel | None = None, route_size: int = 256, **tiles: int
) -> KernelConfig:
    """A configuration for ``grid``, ``ticket`` or ``stride``; fma in some tiles unless ``micro`` is given."""
    fetch = "stride" if schedule == "stride" else "ticket"
    kind = "grid" if schedule == "grid" else "pool"
    return KernelConfig(kind, fetch, groups, micro or Fma(**tiles), route_size)


def with_micro(setting: KernelConfig, **changes: Any) -> KernelConfig:
    """The same with other fields of the micro-kernel."""
    return replace(setting, micro=replace(setting.micro, **changes))


def emulated(setting: KernelConfig) -> KernelConfig:
    """The same without the hardware that a matrix instruction needs."""
    return with_micro(setting, emulation=True) if setting.micro.half_only else setting


def rows_of(*counts: int) -> Ids:
    """k = 1, experts 0, 1, ... get so many rows, in random order."""
    return lambda rng, T, E, k: rng.permutation(np.repeat(np.arange(len(counts)), counts)).reshape(T, 1)


def among(*experts: int) -> Ids:
    """Each slot takes one of these experts, repetition allowed."""
    return lambda rng, T, E, k: rng.choice(experts, (T, k))


def same(*experts: int) -> Ids:
    """Every token takes just these experts."""
    return lambda rng, T, E, k: np.tile(experts, (T, 1))


def hot(rng: np.random.Generator, T: int, E: int, k: int) -> np.ndarray:
    """Two tokens of three have expert 5 in their first slot."""
    ids = random_ids(rng, T, E, k)
    ids[rng.random(T) < 2 / 3, 0] = 5
    return ids


def without(tokens: slice, value: int = -1) -> Ids:
    """Random ids, but these tokens are padding (-1) or absent (-2)."""

    def ids(rng: np.random.Generator, T: int, E: int, k: int) -> np.ndarray:
        result = random_ids(rng, T, E, k)
        result[tokens] = value
        return result

    return ids


def some_slots(rng: np.random.Generator, T: int, E: int, k: int) -> np.ndarray:
    """Every slot is padding with one chance in three."""
    return np.where(rng.random((T, k)) < 1 / 3, -1, random_ids(rng, T, E, k))


HALF = np.float16
GPT_OSS = Activation(beta=1.702, limit=7.0, up_offset=1.0)

SIZES = [
    Case("nothing at all; one slot, where -1 / top_k is -1 and not 0", 0, 8, 1),
    Case("no token in buffers for 40", 0, 60, 4, absent=40, schedule="grid"),
    Case("the smallest block", 1, 1, 1, 1, 1, schedule="grid"),
    Case("one product a row, one column", 2, 1, 1, 2, 1, "f32", schedule="stride"),
    Case("one column of d, odd K everywhere", 33, 8, 2, 1, 33, "f32"),
    Case("decode: most tiles hold one row", 1, 128, 8, 130, 65, "u8"),
    Case("decode of two, buffers far larger", 2, 60, 6, 65, 33, "i8", absent=98, schedule="grid"),
    Case("prefill, no size divides a tile", 100, 60, 4, 47, 33),
    Case("prefill, all sizes divide the tiles", 100, 8, 2, 64, 64, schedule="grid"),
    Case("prefill in f16 buffers", 1000, 8, 2, 130, 65, ("u4", "i4", "u8"), dtype=HALF),
    Case("many tokens, few experts, one row tile behind another", 1000, 8, 1, 33, 47, schedule="stride"),
    Case("experts beyond the work-group, most with few rows", 1000, 512, 10, 32, 32, "u4", group=32, zero=True),
    Case("the most experts, a scan of 16 rounds", 1000, 2048, 3, 18, 34, schedule="grid"),
    Case("the most experts and slots", 100, 2048, 10, 33, 17, "f32"),
    Case("one expert less than the work-group", 33, 127, 5, schedule="grid"),
    Case("as many experts as the work-group", 33, 128, 7, schedule="stride"),
    Case("one expert more than the work-group", 33, 129, 9, dtype=HALF),
    Case("an odd number of slots", 100, 60, 3, 48, 36, dtype=HALF, schedule="stride"),
    Case("N = 2880, which no tile divides: gpt-oss", 2, 8, 4, 2880, 34, "u4", zero=True, dtype=HALF),
    Case("K = 2880 of down, 45 blocks of gate and up", 2, 8, 4, 34, 2880, "i4", group=2),
]

ROUTINGS = [
    Case("all on one expert", 100, 8, 1, ids=same(5)),
    Case("all on the last expert", 33, 60, 1, ids=same(59), schedule="stride"),
    Case("all on the first expert", 33, 60, 1, ids=same(0), schedule="grid"),
    Case("all on the same experts", 100, 60, 5, ids=same(3, 1, 59, 0, 20)),
    Case("one expert in each slot: more rows than tokens", 33, 8, 3, ids=same(4, 4, 4), schedule="grid"),
    Case("each of two experts several times a token", 33, 8, 8, ids=among(2, 3)),
    Case("one hot expert", 1000, 128, 8, 32, 17, ids=hot),
    Case("most experts empty", 100, 2048, 2, ids=among(0, 700, 2047), schedule="stride"),
    Case("first and last experts empty", 100, 60, 2, ids=among(*range(5, 50)), schedule="grid"),
    Case("one row less, as many, one more than a tile and two", 194, 8, 1, ids=rows_of(31, 32, 33, 0, 1, 64, 33)),
    Case("the same in grid order", 194, 8, 1, ids=rows_of(33, 0, 31, 65, 0, 32, 33), schedule="grid"),
    Case("padding at the start", 33, 8, 2, ids=without(slice(0, 7)), absent=31),
    Case("padding in the middle", 33, 8, 2, ids=without(slice(9, 21)), schedule="grid"),
    Case("padding at the end", 33, 8, 2, ids=without(slice(30, 33)), absent=1, schedule="stride"),
    Case("padding in single slots", 100, 60, 6, ids=some_slots, absent=3, dtype=HALF),
    Case("only padding", 33, 8, 2, ids=without(slice(None)), absent=2),
    Case("an absent row before the last token counts as padding", 33, 8, 2, ids=without(slice(4, 9), -2)),
]

FORMATS = [
    Case("whole numbers, one scale a channel, odd K", 33, 8, 2, 65, 33, "u8"),
    Case("the same with zero points", 33, 8, 2, 33, 65, "u8", zero=True, schedule="grid"),
    Case("the same, signed", 33, 8, 2, 47, 33, "i8", zero=True, dtype=HALF),
    Case("groups of 8-bit weights", 33, 8, 2, 48, 32, "u8", group=16, zero=True, schedule="stride"),
    Case("groups of signed 8-bit weights", 33, 8, 2, 96, 64, "i8", group=32),
    Case("4 bits, one scale a channel", 33, 8, 2, 66, 34, "u4", schedule="grid"),
    Case("an odd number of nibbles of zero points", 33, 3, 2, 34, 33, ("u4", "i4", "u8"), zero=True),
    Case("the same for down", 33, 3, 2, 33, 34, ("u8", "f32", "u4"), zero=False, schedule="stride"),
    Case("an odd number of zero points of down", 33, 5, 2, 33, 34, ("u8", "i8", "i4"), zero=True, dtype=HALF),
    Case("4 bits, groups", 33, 8, 2, 64, 96, "u4", group=32, schedule="stride"),
    Case("4 bits, groups, zero points, odd rows of groups", 33, 3, 2, 96, 160, "u4", group=32, zero=True, dtype=HALF),
    Case("4 bits signed, one scale a channel", 33, 8, 2, 130, 66, "i4", schedule="grid"),
    Case("4 bits signed, zero points", 33, 8, 2, 66, 130, "i4", zero=True, schedule="stride"),
    Case("4 bits signed, groups", 33, 8, 2, 128, 64, "i4", group=64, dtype=HALF),
    Case("4 bits signed, groups, zero points", 33, 8, 2, 30, 18, "i4", group=6, zero=True, schedule="grid"),
    Case("groups that straddle the K tile", 33, 8, 2, 144, 96, "u4", group=48, zero=True),
    Case("a different format for each projection", 33, 8, 2, 64, 33, ("u8", "u4", "f16"), schedule="grid"),
    Case("scales in f32", 33, 8, 2, 64, 32, "u4", group=16, zero=True, options={"scale_dtype": np.float32}),
    Case("f32 weights in f16 buffers", 33, 8, 2, 65, 33, "f32", dtype=HALF),
]


def _fused(
    why: str, layout: GateUpLayout, *sizes: Any, biases: Any = None, activation: Any = SWIGLU, **rest: Any
) -> Case:
    """Gate and up in one matrix; ``sizes`` are H, I and the formats of a block of 33 tokens."""
    options = {"layout": layout, "biases": biases, "activation": activation, **rest.pop("options", {})}
    return Case(why, 33, 5, 2, *sizes, options=options, **rest)


SINGLE = np.float32
FUSED = [
    _fused("GPT-OSS in f16", "interleaved", 65, 47, "f16", biases=HALF, activation=GPT_OSS),
    _fused("GPT-OSS in mxfp4", "interleaved", 64, 96, "f4e2m1", group=32, biases=HALF, activation=GPT_OSS),
    _fused("GPT-OSS in int4", "interleaved", 64, 32, "u4", group=16, zero=True, biases=SINGLE, activation=GPT_OSS),
    _fused("a clamp that bites", "interleaved", 34, 17, "f32", activation=Activation(limit=0.25, up_offset=-0.5)),
    _fused("no biases, odd I and K", "interleaved", 33, 17, "u8", zero=True, schedule="grid"),
    _fused("one row of each", "interleaved", 3, 1, "f32", biases=SINGLE, schedule="stride"),
    _fused("halves, odd I and K", "halves", 47, 33, "i8", biases=HALF, dtype=HALF),
    _fused("one row of each half", "halves", 2, 1, "f16", schedule="grid"),
    _fused("more columns than a block", "halves", 66, 130, "i4", biases=SINGLE, schedule="grid"),
    _fused("zero points of halves, odd counts", "halves", 34, 33, ("u4", "f32"), zero=True, dtype=HALF),
    _fused("groups of 64, zero points", "halves", 128, 64, "u4", group=64, zero=True, biases=HALF, schedule="stride"),
    _fused("groups of 128", "interleaved", 256, 128, "i4", group=128, activation=Activation("geglu_erf")),
    _fused("groups of 256, zero points", "interleaved", 512, 256, "u4", group=256, zero=True, schedule="grid"),
    _fused("groups of 16, 8 bits", "halves", 48, 32, "i8", group=16, activation=Activation("reglu"), biases=SINGLE),
    _fused("groups of 32, 8 bits, zero points", "interleaved", 96, 64, "u8", group=32, zero=True, biases=HALF),
    _fused("mxfp4 by channel, odd I", "halves", 18, 33, ("f4e2m1", "u8"), biases=SINGLE),
    _fused("mxfp4 by twos in f16 buffers", "interleaved", 34, 18, "f4e2m1", group=2, dtype=HALF, schedule="stride"),
    _fused("a different format for down", "halves", 64, 96, ("u4", "f4e2m1"), group=32, zero=True, schedule="grid"),
]

ACTIVATIONS = [
    Case("mxfp4, three GEMMs", 33, 8, 2, 64, 32, "f4e2m1", group=32),
    Case("mxfp4 for down alone", 33, 8, 2, 33, 64, ("f16", "u8", "f4e2m1"), schedule="grid"),
    Case("GEGLU by tanh", 33, 8, 2, 34, 18, options={"activation": Activation("geglu_tanh")}),
    Case(
        "GEGLU by erf, a bias of down",
        33,
        8,
        2,
        34,
        17,
        "u8",
        options={"activation": Activation("geglu_erf"), "biases": HALF},
    ),
    Case("ReGLU in f16 buffers", 33, 8, 2, 47, 33, dtype=HALF, options={"activation": Activation("reglu")}),
    Case(
        "a swish of another slope, offset",
        33,
        8,
        2,
        34,
        18,
        "f32",
        options={"activation": Activation(beta=-0.3, up_offset=2.5)},
    ),
    Case("clamps", 33, 8, 2, 34, 18, "f32", options={"activation": Activation("geglu_tanh", limit=0.5, up_offset=0.1)}),
    Case("a swish without slope", 33, 8, 2, 34, 18, "f32", options={"activation": Activation(beta=0.0)}),
]

CASES = SIZES + ROUTINGS + FORMATS + FUSED + ACTIVATIONS
