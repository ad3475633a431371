"""Random MoE blocks for kernel tests: weights as they are stored, their float64 values, and runs of the kernels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ov_moe import reference
from ov_moe.devices.opencl import OpenCLDevice
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.geometry import WorkSize
from ov_moe.kernels.stages import COMBINE, DOWN, GATE_UP, ROUTE, Stage
from ov_moe.spec import Precision, ProjectionSpec

POISON_INT = -1234567
_RANGE = {"u4": (0, 16), "i4": (-8, 8), "u8": (0, 256), "i8": (-128, 128)}


@dataclass
class Projection:
    """Stored arrays as the kernels read them (values, scale, zero point) and the float64 weights [E, N, K]."""

    spec: ProjectionSpec
    arrays: list[np.ndarray]
    dense: np.ndarray


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
) -> Projection:
    """Weights of about unit output variance; ``group`` 0 means one scale a channel."""
    if precision in ("f16", "f32"):
        dense = rng.standard_normal((experts, n, k)) / np.sqrt(k)
        stored = dense.astype(np.float16 if precision == "f16" else np.float32)
        spec = ProjectionSpec(precision, n, k)
        # Absent inputs are one-element stand-ins.
        return Projection(spec, [stored, np.zeros(1, np.float32), np.zeros(1, np.float32)], stored.astype(np.float64))
    group = group or k
    low, high = _RANGE[precision]
    values = rng.integers(low, high, (experts, n, k))
    zeros = rng.integers(low, high, (experts, n, k // group))
    scale = (rng.uniform(0.5, 1.5, (experts, n, k // group)) * 3.0 / (high - low) / np.sqrt(k)).astype(np.float16)
    spec = ProjectionSpec(precision, n, k, group, zero)
    kind = np.int8 if precision == "i8" else np.uint8
    store = pack if precision in ("u4", "i4") else lambda v: v.astype(kind)
    arrays = [store(values), scale, store(zeros) if zero else np.zeros(1, np.float32)]
    shape = [-1, n, k // 2, 1] if precision in ("u4", "i4") else [-1, n, k, 1]
    arrays[0] = arrays[0].reshape(shape)
    if zero:
        arrays[1] = arrays[1].reshape(-1)
    return Projection(spec, arrays, reference.dequantize(spec, arrays[0], scale, arrays[2] if zero else None))


@dataclass
class Block:
    """One random block and how to run it."""

    spec: BlockSpec
    gate: Projection
    up: Projection
    down: Projection
    x: np.ndarray  # [TM, H]
    ids: np.ndarray  # [TM, k] i32
    weights: np.ndarray  # [TM, k]
    launched: dict[str, int] = field(default_factory=dict)

    def oracle(self) -> np.ndarray:
        return reference.moe(self.x, self.ids, self.weights, self.gate.dense, self.up.dense, self.down.dense)

    def run_stage(
        self,
        device: OpenCLDevice,
        config: KernelConfig,
        stage: Stage,
        inputs: list[np.ndarray],
        shape: Any,
        dtype: Any,
    ) -> np.ndarray:
        """One stage into a poisoned output with 64 guard elements behind it, which must survive."""
        output = np.full(shape, POISON_INT if dtype == np.int32 else np.nan, dtype)
        device.run(stage, config, self.spec.attributes(), inputs, output)
        return output

    def plan(self, device: OpenCLDevice, config: KernelConfig) -> np.ndarray:
        layout = self.spec.layout
        return self.run_stage(device, config, ROUTE, [self.ids], (layout.size, 1, 1, 1), np.int32)

    def run(self, device: OpenCLDevice, config: KernelConfig) -> np.ndarray:
        """The four stages; y [TM, H], NaN where nothing was written."""
        plan, rows, dtype = self.plan(device, config), self.spec.layout.max_rows, self.x.dtype
        up = [self.x, plan, *self.gate.arrays, *self.up.arrays]
        h = self.run_stage(device, config, GATE_UP, up, (rows, self.spec.intermediate, 1, 1), dtype)
        down = [h, plan, *self.down.arrays]
        d = self.run_stage(device, config, DOWN, down, (rows, self.spec.hidden, 1, 1), dtype)
        tokens = (self.spec.max_tokens, self.spec.hidden, 1, 1)
        y = self.run_stage(device, config, COMBINE, [d, plan, self.weights], tokens, dtype)
        return y.reshape(tokens[:2])


def random_ids(rng: np.random.Generator, tokens: int, experts: int, top_k: int) -> np.ndarray:
    """top_k different experts for each token, uniform."""
    return np.argsort(rng.random((tokens, experts)), axis=1)[:, :top_k].astype(np.int32)


def random_block(
    rng: np.random.Generator,
    *,
    tokens: int,
    experts: int,
    top_k: int,
    hidden: int = 48,
    intermediate: int = 36,
    precision: Precision | tuple[Precision, Precision, Precision] = "f16",
    group: int = 0,
    zero: bool = False,
    ids: np.ndarray | None = None,
    max_tokens: int | None = None,
    dtype: Any = np.float32,
) -> Block:
    """A block of ``tokens`` tokens in buffers for ``max_tokens``; the rest is absent (id -2), x there NaN."""
    kinds = (precision,) * 3 if isinstance(precision, str) else precision
    gate = random_projection(rng, experts, intermediate, hidden, kinds[0], group, zero)
    up = random_projection(rng, experts, intermediate, hidden, kinds[1], group, zero)
    down = random_projection(rng, experts, hidden, intermediate, kinds[2], group, zero)
    room = max(tokens, 1) if max_tokens is None else max_tokens
    x = np.full((room, hidden), np.nan, dtype)
    x[:tokens] = rng.standard_normal((tokens, hidden))
    all_ids = np.full((room, top_k), -2, np.int32)
    all_ids[:tokens] = random_ids(rng, tokens, experts, top_k) if ids is None else ids
    weights = np.full((room, top_k), np.nan, dtype)
    weights[:tokens] = rng.random((tokens, top_k))
    weights[:tokens] /= weights[:tokens].sum(axis=1, keepdims=True)
    spec = BlockSpec(experts, top_k, room, gate.spec, up.spec, down.spec)
    return Block(spec, gate, up, down, x, all_ids, weights)


__all__ = ["Block", "Projection", "WorkSize", "pack", "random_block", "random_ids", "random_projection"]
