"""Random MoE blocks for kernel tests: weights as they are stored, their float64 values, and runs of the kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ov_moe import reference
from ov_moe.devices.opencl import OpenCLDevice
from ov_moe.kernel_bench.mma import Mma
from ov_moe.kernel_bench.pack import pack_projection
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.compose import program
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.geometry import WorkSize, work_size
from ov_moe.kernels.plan import D_WIDE, H_WIDE
from ov_moe.kernels.stages import COMBINE, DOWN, ROUTE, Stage
from ov_moe.spec import SWIGLU, Activation, GateUpLayout, Precision, ProjectionSpec

POISON_INT = -1234567
ABSENT = np.full(1, np.nan, np.float32)  # stands for an input that a format lacks
GUARD = 64  # elements of poison behind every buffer
_RANGE = {"u4": (0, 16), "i4": (-8, 8), "u8": (0, 256), "i8": (-128, 128), "f4e2m1": (0, 16)}
_PACKED = ("u4", "i4", "f4e2m1")


@dataclass
class Projection:
    """Stored arrays as the kernels read them (values, scale, zero point) and the float64 weights [E, N, K]."""

    spec: ProjectionSpec
    arrays: list[np.ndarray]
    dense: np.ndarray

    def inputs(self, packed: bool, layout: GateUpLayout = "separate") -> list[np.ndarray]:
        """The arrays, or those that the micro-kernel mma takes instead."""
        if not packed:
            return self.arrays
        values, scale, zero = self.arrays
        return [*pack_projection(self.spec, values, scale, zero if self.spec.zero_point else None, layout), ABSENT]


def pack(values: np.ndarray) -> np.ndarray:
    """Flat 4-bit values to bytes, low nibble first."""
    flat = (values.reshape(-1) & 15).astype(np.uint8)
    flat = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    return flat[0::2] | flat[1::2] << 4


def random_projection(
    rng: np.random.Generator,
    experts: int,
    n: int,
    k: int,
    precision: Precision,
    group: int = 0,
    zero: bool = False,
    scale_dtype: Any = np.float16,
) -> Projection:
    """Weights of about unit output variance; ``group`` 0 means one scale a channel. What is absent is one NaN."""
    if precision in ("f16", "f32"):
        dense = rng.standard_normal((experts, n, k)) / np.sqrt(k)
        stored = dense.astype(np.float16 if precision == "f16" else np.float32)
        spec = ProjectionSpec(precision, n, k)
        return Projection(spec, [stored, ABSENT, ABSENT], stored.astype(np.float64))
    group = group or k
    low, high = _RANGE[precision]
    groups = (experts, n, k // group)
    values = rng.integers(low, high, (experts, n, k))
    zeros = rng.integers(low, high, groups)
    if precision == "f4e2m1":
        exponent = 127 + round(np.log2(1 / (3 * k**0.5)))
        scale = rng.integers(exponent - 1, exponent + 2, groups).astype(np.uint8)
    else:
        scale = (rng.uniform(0.5, 1.5, groups) * 3.0 / (high - low) / np.sqrt(k)).astype(scale_dtype)
    spec = ProjectionSpec(precision, n, k, group, zero)
    kind = np.int8 if precision == "i8" else np.uint8
    store = pack if precision in _PACKED else lambda v: v.astype(kind)
    arrays = [store(values), scale, store(zeros) if zero else ABSENT]
    shape = [-1, n, k // 2, 1] if precision in _PACKED else [-1, n, k, 1]
    arrays[0] = arrays[0].reshape(shape)
    if zero:
        arrays[1] = arrays[1].reshape(-1)
    return Projection(spec, arrays, reference.dequantize(spec, arrays[0], scale, arrays[2] if zero else None))


class Results(NamedTuple):
    """What the four stages wrote, NaN (or POISON_INT) where nothing was written."""

    plan: np.ndarray  # [P]
    h: np.ndarray  # [R, I]
    d: np.ndarray  # [R, H]
    y: np.ndarray  # [TM, H]


# (program, inputs, output) -> the same, with buffers that need not be as dense as the shapes say.
Arrange = Callable[[str, list[np.ndarray], np.ndarray], tuple[str, list[np.ndarray], np.ndarray]]


def poison(dtype: Any) -> Any:
    """NaN; for integers a value that is no id, no row and no zero."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return np.nan
    return POISON_INT if kind.itemsize > 1 else 0x5A


def guarded(text: str, inputs: list[np.ndarray], output: np.ndarray) -> tuple[str, list[np.ndarray], np.ndarray]:
    """Every buffer flat and with GUARD elements of poison behind it."""
    flat = [np.append(array.reshape(-1), np.full(GUARD, poison(array.dtype), array.dtype)) for array in inputs]
    return text, flat, np.append(output.reshape(-1), np.full(GUARD, poison(output.dtype), output.dtype))


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equality of bytes: NaN equals NaN, -0 does not equal 0."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@dataclass
class Block:
    """One random block and how to run it."""

    spec: BlockSpec
    gate: Projection  # of both where up is None
    up: Projection | None
    down: Projection
    x: np.ndarray  # [TM, H]
    ids: np.ndarray  # [TM, k] i32
    weights: np.ndarray  # [TM, k]
    gate_bias: np.ndarray | None = None  # [E, 2I], in the order of the stored rows
    down_bias: np.ndarray | None = None  # [E, H]

    def dense(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gate, up [E, I, H] and down [E, H, I] in float64."""
        if self.up is not None:
            return self.gate.dense, self.up.dense, self.down.dense
        return *reference.split_gate_up(self.gate.dense, self.spec.layout), self.down.dense

    def biases(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Those of gate, up [E, I] and down [E, H] in float64; zeros where there are none."""
        spec = self.spec
        gate = up = np.zeros((spec.experts, spec.intermediate))
        if self.gate_bias is not None:
            gate, up = reference.split_gate_up(self.gate_bias.astype(np.float64), spec.layout)
        down = np.zeros((spec.experts, spec.hidden)) if self.down_bias is None else self.down_bias.astype(np.float64)
        return gate, up, down

    def oracle(self) -> np.ndarray:
        """y in float64; 0 for absent tokens."""
        biases = dict(zip(("gate_bias", "up_bias", "down_bias"), self.biases(), strict=True))
        activation = self.spec.activation
        return reference.moe(self.x, self.ids, self.weights, *self.dense(), activation=activation, **biases)

    def gate_up_inputs(self, plan: np.ndarray, packed: bool = False) -> list[np.ndarray]:
        """Inputs of the stage that computes gate and up."""
        rest = [ABSENT if self.gate_bias is None else self.gate_bias] if self.up is None else self.up.inputs(packed)
        return [self.x, plan, *self.gate.inputs(packed, self.spec.layout), *rest]

    def down_inputs(self, h: np.ndarray, plan: np.ndarray, packed: bool = False) -> list[np.ndarray]:
        """Inputs of MoEDown."""
        return [h, plan, *self.down.inputs(packed), ABSENT if self.down_bias is None else self.down_bias]

    def run_stage(
        self,
        device: OpenCLDevice,
        config: KernelConfig,
        stage: Stage,
        inputs: Sequence[np.ndarray],
        shape: tuple[int, int],
        dtype: Any,
        size: WorkSize | None = None,
        arrange: Arrange = guarded,
        plan: np.ndarray | None = None,
    ) -> np.ndarray:
        """One stage into a poisoned output; whatever stands around the output must survive."""
        empty = np.full(shape, poison(dtype), dtype)
        described = [(array.shape, array.dtype.name) for array in inputs]
        attributes = self.spec.attributes()
        text = program(stage, config, attributes, described, (shape, empty.dtype.name))
        text, buffers, output = arrange(text, list(inputs), empty)
        before = output.copy()
        size = size or work_size(stage, config, self.spec.sizes())
        device.launch(text, stage.entry, size, buffers, output, plan=plan)
        if arrange is guarded:
            assert same_bits(output[empty.size :], before[empty.size :]), f"{stage.entry} wrote behind its output"
            return output[: empty.size].reshape(shape)
        return output

    def plan(self, device: OpenCLDevice, config: KernelConfig) -> np.ndarray:
        """The plan [P] of the ids."""
        return self.run_stage(device, config, ROUTE, [self.ids], (self.spec.plan_layout.size, 1), np.int32).reshape(-1)

    def run_all(
        self, device: OpenCLDevice, config: KernelConfig, sizes: Mapping[str, WorkSize] | None = None
    ) -> Results:
        """The four stages, each from what the last one left; ``sizes`` by operation type replace the work sizes."""
        spec, rows, dtype, sizes = self.spec, self.spec.plan_layout.max_rows, self.x.dtype, sizes or {}
        plan = self.plan(device, config)
        live = plan.copy()  # as on a device: a kernel leaves word there for the next ones

        def stage(which: Stage, inputs: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
            return self.run_stage(device, config, which, inputs, shape, dtype, sizes.get(which.op_type), plan=live)

        h = stage(spec.gate_up_stage, self.gate_up_inputs(live, packed_of(config)), (rows, spec.h_columns))
        d = stage(DOWN, self.down_inputs(h, live, packed_of(config)), (rows, spec.d_columns))
        y = stage(COMBINE, [d, live, self.weights], (spec.max_tokens, spec.hidden))
        plan[[H_WIDE, D_WIDE]] = live[[H_WIDE, D_WIDE]]
        return Results(plan, h, d, y)

    def run(self, device: OpenCLDevice, config: KernelConfig) -> np.ndarray:
        """y [TM, H], NaN where nothing was written."""
        return self.run_all(device, config).y


def random_ids(rng: np.random.Generator, tokens: int, experts: int, top_k: int) -> np.ndarray:
    """top_k different experts for each token, uniform."""
    return np.argsort(rng.random((tokens, experts)), axis=1)[:, :top_k].astype(np.int32)


def packed_of(config: KernelConfig) -> bool:
    """Whether a configuration takes packed weights: only mma has them."""
    return isinstance(config.micro, Mma) and config.micro.packed


def random_block(
    rng: np.random.Generator,
    *,
    tokens: int,
    experts: int,
    top_k: int,
    hidden: int = 48,
    intermediate: int = 36,
    precision: Precision | tuple[Precision, ...] = "f16",
    group: int = 0,
    zero: bool = False,
    ids: np.ndarray | None = None,
    max_tokens: int | None = None,
    dtype: Any = np.float32,
    scale_dtype: Any = np.float16,
    layout: GateUpLayout = "separate",
    activation: Activation = SWIGLU,
    biases: Any = None,
    exponents: bool = False,
) -> Block:
    """A block of ``tokens`` tokens in buffers for ``max_tokens``; the rest is absent (id -2).

    ``precision`` is that of all projections, or of gate, up and down, or of both in one and down. ``biases`` is
    their type; gate and up have some where they stand in one matrix. x and top-k weights that no expert may see
    are NaN; all others differ, as do all experts' weights. ``exponents``: rows of h and d have some.
    """
    fused = layout != "separate"
    kinds = (precision,) * (2 if fused else 3) if isinstance(precision, str) else precision
    shapes = [(2 * intermediate, hidden)] if fused else [(intermediate, hidden)] * 2
    made = [
        random_projection(rng, experts, n, k, kind, group, zero and kind != "f4e2m1", scale_dtype)
        for kind, (n, k) in zip(kinds, [*shapes, (hidden, intermediate)], strict=True)
    ]
    gate, up, down = made[0], None if fused else made[1], made[-1]
    gate_bias = rng.standard_normal((experts, 2 * intermediate)).astype(biases) if biases and fused else None
    down_bias = rng.standard_normal((experts, hidden)).astype(biases) if biases else None
    room = max(tokens, 1) if max_tokens is None else max_tokens
    x = np.full((room, hidden), np.nan, dtype)
    x[:tokens] = rng.standard_normal((tokens, hidden))
    all_ids = np.full((room, top_k), -2, np.int32)
    all_ids[:tokens] = random_ids(rng, tokens, experts, top_k) if ids is None else ids
    weights = np.full((room, top_k), np.nan, dtype)
    weights[:tokens] = rng.random((tokens, top_k))
    weights[:tokens] /= weights[:tokens].sum(axis=1, keepdims=True)
    x[(all_ids < 0).all(axis=1)] = np.nan
    weights[all_ids < 0] = np.nan
    specs = gate.spec, up.spec if up is not None else None, down.spec
    some = gate_bias is not None, down_bias is not None
    spec = BlockSpec(experts, top_k, room, *specs, layout, activation, *some, exponents, exponents)
    return Block(spec, gate, up, down, x, all_ids, weights, gate_bias, down_bias)
