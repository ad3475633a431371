"""What the kernel fuzzer draws: programs (sizes, formats, tiles), and what one program is run with (ids, values).

A program takes seconds to build and milliseconds to run, so many cases share one. y stays inside f16 where buffers are
f16; h and d do not where rows have exponents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from blocks import Block, Projection, random_block
from hypothesis import strategies as st
from kernel_cases import GPT_OSS, config, with_micro

from ov_moe import reference
from ov_moe.kernel_bench.mma import Mma
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.micro import Dpas, Gemv
from ov_moe.spec import SWIGLU, Activation, DeviceInfo, GateUpLayout, Precision, Workload

FOUR_BIT = ("u4", "i4", "f4e2m1")
PRECISIONS: tuple[Precision, ...] = ("f16", "f32", "u8", "i8", "u4", "i4", "f4e2m1")
EXPERTS = (1, 2, 5, 8, 8, 60, 60, 127, 128, 129, 512)
SIZES = (1, 2, 3, 17, 18, 33, 34, 47, 64, 65, 66, 96, 130, 192, 257, 288)
WEIGHTS = 2**18  # of a matrix over all experts: NumPy's oracle stays at milliseconds
ACTIVATIONS = (
    SWIGLU,
    GPT_OSS,
    Activation(limit=0.25, up_offset=-0.5),
    Activation(beta=-0.3, up_offset=2.5),
    Activation(beta=0.0),
    Activation("geglu_tanh"),
    Activation("geglu_tanh", limit=0.5, up_offset=0.1),
    Activation("geglu_erf"),
    Activation("reglu"),
    Activation("reglu", limit=1.5),
)
SCHEDULES = (("grid", "ticket"), ("grid", "stride"), ("ticket", "stride"), ("ticket", "grid"))
FMA_TILES: tuple[dict[str, int], ...] = (
    {},
    {"tile_m": 16},
    {"tile_m": 64},
    {"tile_n": 32},
    {"tile_m": 16, "tile_n": 128, "local_size": 64},
    {"tile_k": 16, "local_size": 256},
)
DPAS_TILES: tuple[dict[str, int], ...] = (
    {},
    {"tile_k": 64},
    {"subgroup_rows": 8, "tile_m": 8, "tile_n": 64, "local_size": 32},
    {"subgroup_rows": 8, "tile_m": 16, "tile_n": 64, "local_size": 32},
)
GEMV_TILES: tuple[dict[str, int], ...] = (
    {},
    {"tile_m": 1},
    {"tile_m": 4},
    {"tile_n": 128},
    {"local_size": 64, "tile_k": 64},
)


@dataclass(frozen=True)
class Program:
    """What the text of the four programs depends on; two schedules, which must give the same bits."""

    setting: KernelConfig  # of the micro-kernel; its schedule is replaced
    schedules: tuple[str, str]
    experts: int
    top_k: int
    max_tokens: int
    hidden: int
    intermediate: int
    precision: tuple[Precision, ...]
    group: int
    zero: bool
    dtype: Any
    scale_dtype: Any
    layout: GateUpLayout
    activation: Activation
    biases: Any
    exponents: bool

    @property
    def computes(self) -> str:
        """The micro-kernel that runs: where the buffers are f32, fma stands in for the matrix instructions."""
        micro = self.setting.micro
        return "fma" if micro.half_only and self.dtype is np.float32 else micro.name

    def __str__(self) -> str:
        kinds = "-".join(self.precision) + (f" g{self.group}" if self.group else "") + (" zero" if self.zero else "")
        micro = self.setting.micro
        tile = f"{micro.tile_m}x{micro.tile_n}x{micro.tile_k}"
        block = f"E={self.experts} k={self.top_k} TM={self.max_tokens} H={self.hidden} I={self.intermediate}"
        rest = f"{self.layout} {self.activation.kind} {np.dtype(self.dtype).name} {'/'.join(self.schedules)}"
        return f"{micro.name} {tile} {block} {kinds} {rest}"

    def weights(self, seed: int, exponent: int) -> Block:
        """A block with its weights, biases and no routing; their scales are 2^exponent times as large as usual."""
        block = random_block(
            np.random.default_rng(seed),
            tokens=0,
            ids=np.zeros((0, self.top_k), np.int32),
            experts=self.experts,
            top_k=self.top_k,
            hidden=self.hidden,
            intermediate=self.intermediate,
            precision=self.precision,
            group=self.group,
            zero=self.zero,
            max_tokens=self.max_tokens,
            dtype=self.dtype,
            scale_dtype=self.scale_dtype,
            layout=self.layout,
            activation=self.activation,
            biases=self.biases,
            exponents=self.exponents,
        )
        up = None if block.up is None else _scaled(block.up, exponent)
        return replace(block, gate=_scaled(block.gate, exponent), up=up, down=_scaled(block.down, exponent))

    def config(self, schedule: str, groups: int) -> KernelConfig:
        """The configuration with one of the schedules."""
        base = config(schedule, groups)
        return replace(self.setting, schedule=base.schedule, fetch=base.fetch, groups=groups)


@dataclass(frozen=True)
class Run:
    """What one case gives to a program."""

    tokens: int
    routing: str
    seed: int
    weights_seed: int
    x_exponent: int
    weights_exponent: int
    slots: str  # how top-k weights are drawn
    wrong: int | None  # an id out of range, or None
    nan_rows: bool
    groups: int
    beyond: bool  # h and d are beyond f16 where rows have exponents, and top-k weights bring y back

    def block(self, program: Program, weights: Block) -> tuple[Block, np.ndarray]:
        """The block, and the tokens [TM] whose output must be NaN: an id of theirs, or their x, is bad."""
        rng, room, used = np.random.default_rng(self.seed), program.max_tokens, self.tokens
        ids = np.full((room, program.top_k), -2, np.int32)
        ids[:used] = ROUTINGS[self.routing](rng, used, program.experts, program.top_k)
        bad = np.zeros(room, bool)
        if self.wrong is not None and used:
            at = rng.integers(0, used, 2)
            ids[at, rng.integers(0, program.top_k, 2)] = self.wrong
            bad[at] = True
        x = np.full((room, program.hidden), np.nan, program.dtype)
        beyond = self.beyond and program.exponents
        x[:used] = np.ldexp(rng.standard_normal((used, program.hidden)), self.x_exponent + 9 * beyond)
        if self.nan_rows and used:
            at = rng.integers(0, used, 2)
            x[at, rng.integers(0, program.hidden, 2)] = np.nan
            bad[at] |= ((ids[at] >= 0) & (ids[at] < program.experts)).any(axis=1)
        x[(ids < 0).all(axis=1)] = np.nan
        slots = np.full(ids.shape, np.nan, program.dtype)
        slots[:used] = np.ldexp(SLOTS[self.slots](rng, used, program.top_k), -12 * beyond)
        slots[(ids < 0) | (ids >= program.experts)] = np.nan
        return replace(weights, x=x, ids=ids, weights=slots), bad


def _scaled(part: Projection, exponent: int) -> Projection:
    """The same weights times 2^exponent, rounded as they are stored."""
    if not exponent:
        return part
    values, scale, zero = part.arrays
    spec = part.spec
    if not spec.group_size:
        stored = np.ldexp(values, exponent).astype(values.dtype)
        return replace(part, arrays=[stored, scale, zero], dense=reference.dequantize(spec, stored))
    if spec.precision == "f4e2m1":
        scale = (scale.astype(np.int64) + exponent).clip(0, 254).astype(np.uint8)
    else:
        scale = np.ldexp(scale, exponent).astype(scale.dtype)
    dense = reference.dequantize(spec, values, scale, zero if spec.zero_point else None)
    return replace(part, arrays=[values, scale, zero], dense=dense)


Routing = Callable[[np.random.Generator, int, int, int], np.ndarray]


def _uniform(rng: np.random.Generator, T: int, E: int, k: int) -> np.ndarray:
    return rng.integers(0, E, (T, k))


def _one(rng: np.random.Generator, T: int, E: int, k: int) -> np.ndarray:
    return np.full((T, k), rng.integers(E))


def _few(rng: np.random.Generator, T: int, E: int, k: int) -> np.ndarray:
    return rng.choice(rng.integers(0, E, 3), (T, k))


def _ends(rng: np.random.Generator, T: int, E: int, k: int) -> np.ndarray:
    return rng.choice([0, E - 1], (T, k))


def _hot(rng: np.random.Generator, T: int, E: int, k: int) -> np.ndarray:
    return np.where(rng.random((T, k)) < 2 / 3, rng.integers(E), rng.integers(0, E, (T, k)))


def _slots_padded(rng: np.random.Generator, T: int, E: int, k: int) -> np.ndarray:
    return np.where(rng.random((T, k)) < 1 / 3, -1, _uniform(rng, T, E, k))


def _tokens_padded(rng: np.random.Generator, T: int, E: int, k: int) -> np.ndarray:
    """A run of tokens is padding, or absent where it does not end the tokens."""
    ids, (begin, end) = _uniform(rng, T, E, k), np.sort(rng.integers(0, T + 1, 2))
    ids[begin:end] = -2 if end < T and rng.random() < 0.3 else -1
    return ids


def _nothing(rng: np.random.Generator, T: int, E: int, k: int) -> np.ndarray:
    return np.full((T, k), -1)


ROUTINGS: dict[str, Routing] = {
    "uniform": _uniform,
    "one expert": _one,
    "three experts": _few,
    "first and last": _ends,
    "hot expert": _hot,
    "padded slots": _slots_padded,
    "padded tokens": _tokens_padded,
    "only padding": _nothing,
}
SLOTS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "normalised": lambda rng, T, k: rng.dirichlet(np.ones(k), T),
    "signed": lambda rng, T, k: rng.standard_normal((T, k)),
    "zeros": lambda rng, T, k: np.zeros((T, k)),
    "one slot": lambda rng, T, k: np.eye(k)[rng.integers(0, k, T)],
}


@st.composite
def programs(draw: st.DrawFn, kind: str) -> Program:
    """Any block that the micro-kernel can serve."""
    matrix = kind in ("dpas", "mma")
    # Buffers of f32 take fma in the tiles of the matrix instructions: now and then is enough.
    single = draw(st.integers(0, 19)) == 13 if matrix else draw(st.booleans())
    dtype = np.float32 if single else np.float16
    layout = draw(st.sampled_from(["separate", "separate", "interleaved", "halves"]))
    precision = _precisions(draw, kind, layout)
    experts = draw(st.sampled_from(EXPERTS))
    most = max(WEIGHTS // experts, 32 * 32)  # mma takes no matrix that is smaller
    groups = (0, 0, 32, 64, 96, 128) if kind == "mma" else (0, 0, 2, 6, 16, 32, 32, 48, 64, 96, 128)
    group = draw(st.sampled_from([g for g in groups if g * g <= most]))
    hidden, intermediate = _sizes(draw, kind, precision, group, most)
    setting = _setting(draw, kind, precision)
    if single and kind == "mma":  # fma stands in for mma, and takes weights as they are stored
        setting = with_micro(setting, packed=False)
    largest = 40 if kind == "mma" else 103  # emulated, mma takes 0.3 to 1.3 s for 60 tokens, the others 3 to 10 ms
    return Program(
        setting=setting,
        schedules=draw(st.sampled_from(SCHEDULES)),
        experts=experts,
        top_k=draw(st.sampled_from([1, 2, 3, 4] if kind == "mma" else [1, 2, 2, 3, 4, 5, 8, 10])),
        max_tokens=draw(st.sampled_from([1, 2, 7, 33, 40, largest, largest])),
        hidden=hidden,
        intermediate=intermediate,
        precision=precision,
        group=group,
        zero=draw(st.booleans()),
        dtype=dtype,
        # mma takes scales as f16 and so does not compute with those of f32.
        scale_dtype=np.float16 if kind == "mma" else draw(st.sampled_from([np.float16, np.float16, np.float32])),
        layout=layout,
        activation=draw(st.sampled_from(ACTIVATIONS)),
        biases=draw(st.sampled_from([None, np.float16, np.float32])),
        exponents=kind != "mma" and setting.micro.tile_n >= 64 and draw(st.integers(0, 3)) > 0,
    )


def _precisions(draw: st.DrawFn, kind: str, layout: str) -> tuple[Precision, ...]:
    known = [p for p in PRECISIONS if kind != "mma" or p != "f32"]
    count = 2 if layout != "separate" else 3
    if draw(st.booleans()):
        return (draw(st.sampled_from(known)),) * count
    parts = draw(st.tuples(*[st.sampled_from(known)] * count))
    return (parts[0], parts[0], parts[2]) if kind == "mma" and count == 3 else parts


def _sizes(draw: st.DrawFn, kind: str, precision: tuple[Precision, ...], group: int, most: int) -> tuple[int, int]:
    """H and I: the former is K of all projections but the last, the latter of that one."""
    step = group or (32 if kind == "mma" else 1)

    def fitting(limit: int, kinds: tuple[Precision, ...]) -> list[int]:
        sizes = SIZES if step == 1 else [step * times for times in (1, 2, 3, 5, 9)]
        even = any(p in FOUR_BIT for p in kinds)
        return [n for n in sizes if n <= min(limit, 320) and not (even and n % 2)]

    hidden = draw(st.sampled_from(fitting(most // (step if step > 1 else 2), precision[:-1])))
    return hidden, draw(st.sampled_from(fitting(most // hidden, precision[-1:])))


def _setting(draw: st.DrawFn, kind: str, precision: tuple[Precision, ...]) -> KernelConfig:
    base = config("ticket")
    if kind == "fma":
        return config("ticket", **draw(st.sampled_from(FMA_TILES)))
    if kind == "gemv":
        return replace(base, micro=Gemv(subgroup=draw(st.sampled_from([8, 16])), **draw(st.sampled_from(GEMV_TILES))))
    if kind == "dpas":
        subgroup, tiles = draw(st.sampled_from([8, 16])), draw(st.sampled_from(DPAS_TILES))
        few = {"local_size": 4 * subgroup, "tile_n": 8 * subgroup} if "tile_m" in tiles else {}
        return with_micro(replace(base, micro=Dpas.of(subgroup, emulation=True)), **{**tiles, **few})
    packed = all(p in FOUR_BIT for p in precision) and draw(st.booleans())
    rows = draw(st.sampled_from([1, 8, 50, 200]))
    workload = Workload(rows * 4, 8, 2, 96, 64, precision[0])
    return Mma.placed(base, workload, DeviceInfo(1), packed=packed)


def random_run(rng: np.random.Generator, program: Program) -> Run:
    """Tokens, ids and values for a program. Not drawn by hypothesis: a hundred of them would be more than it takes."""

    def one_of(*values: Any) -> Any:
        return values[rng.integers(len(values))]

    half = program.dtype is np.float16
    x_exponent = one_of(*([0, 0, 0, -6, -14, 2] if half else [0, 0, 0, -20, -40, 10]))
    weights_exponent = one_of(0, 0, 0, -3, -9, 2)
    if half and x_exponent + weights_exponent > 2:
        weights_exponent = 0  # h grows with the square of both
    room = program.max_tokens
    return Run(
        tokens=min(one_of(0, 1, 2, 33, 100, room, room, room // 2), room),
        routing=one_of("uniform", "uniform", *ROUTINGS),
        seed=int(rng.integers(2**32)),
        weights_seed=int(rng.integers(2)),
        x_exponent=x_exponent,
        weights_exponent=weights_exponent,
        slots=one_of("normalised", *SLOTS),
        wrong=one_of(*[None] * 6, program.experts, -3, 2**31 - 1, -(2**31)),
        nan_rows=one_of(*[False] * 5, True),
        groups=one_of(7, 1, 400),
        beyond=x_exponent == 0 and weights_exponent <= 0 and one_of(True, False),
    )
