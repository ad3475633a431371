"""Random stored weights, made fast enough for billions of them, and one expert's float64 values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ov_moe import reference
from ov_moe.arguments import check_word
from ov_moe.devices.opencl import Tensor
from ov_moe.kernel_bench.pack import pack_projection
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.formats import FORMATS
from ov_moe.spec import GateUpLayout, ProjectionSpec

# Stands for an input that a format lacks.
ABSENT = np.full(1, np.nan, np.float32)


@dataclass(frozen=True)
class Stored:
    """One projection as the kernels read it: values, scales and zero points [E, ...], ABSENT where there are none."""

    spec: ProjectionSpec
    values: Tensor
    scale: Tensor
    zero: Tensor

    @property
    def arrays(self) -> list[Tensor]:
        """The three inputs of a stage."""
        return [self.values, self.scale, self.zero]

    def packed(self, layout: GateUpLayout = "separate") -> list[Tensor]:
        """The three inputs of a stage as ov_moe.kernel_bench.pack lays them out; words hold scale and zero point."""
        zero = self.zero if self.spec.zero_point else None
        return [*pack_projection(self.spec, self.values, self.scale, zero, layout), ABSENT]

    def dense(self, expert: int) -> reference.Array:
        """[N, K] of one expert in float64."""
        scale = self.scale[expert] if self.spec.group_size else None
        zero = self.zero[expert] if self.spec.zero_point else None
        only: reference.Array = reference.dequantize(self.spec, self.values[expert], scale, zero)[0]
        return only

    def expert_bytes(self) -> int:
        """Bytes that one expert's weights, scales and zero points take."""
        stored = [self.values] + [part for part in (self.scale, self.zero) if part is not ABSENT]
        return sum(part.nbytes // part.shape[0] for part in stored)


@dataclass(frozen=True)
class StoredBlock:
    """All weights of a block; ``up`` is None where ``gate`` holds both, a bias is ABSENT or [E, N] f16."""

    spec: BlockSpec
    gate: Stored
    up: Stored | None
    down: Stored
    gate_bias: Tensor
    down_bias: Tensor

    def gate_up_inputs(self) -> list[Tensor]:
        """Inputs of GateUp behind x and the plan."""
        return [*self.gate.arrays, *(self.up.arrays if self.up is not None else [self.gate_bias])]

    def down_inputs(self) -> list[Tensor]:
        """Inputs of Down behind h and the plan."""
        return [*self.down.arrays, self.down_bias]

    def packed_gate_up_inputs(self) -> list[Tensor]:
        """``gate_up_inputs`` of a kernel that takes packed weights."""
        gate = self.gate.packed(self.spec.layout)
        return [*gate, *(self.up.packed() if self.up is not None else [self.gate_bias])]

    def packed_down_inputs(self) -> list[Tensor]:
        """``down_inputs`` of a kernel that takes packed weights."""
        return [*self.down.packed(), self.down_bias]


def random_stored(rng: np.random.Generator, experts: int, spec: ProjectionSpec) -> Stored:
    """Weights such that inputs of unit variance give outputs of about unit variance."""
    n, k = spec.n, spec.k
    if spec.group_size == 0:
        return Stored(spec, _floats(rng, (experts, n, k), spec), ABSENT, ABSENT)
    row = FORMATS[spec.precision]
    per_byte = 1 + row.packed
    values = _bytes(rng, (experts, n, k // per_byte))
    meant = row.values()
    if not np.isfinite(meant).all():  # NaN would hide everything else
        values = np.where(np.isfinite(meant), np.arange(meant.size), 0).astype(np.uint8)[values]
        meant = meant[np.isfinite(meant)]
    shape = (experts, n, spec.groups)
    # Over random bits; those of a zero point are as random.
    square = np.square(meant).mean() if row.signed else meant.var()
    root = np.sqrt(k * square * (2 if spec.zero_point else 1))
    if row.scale == "e8m0":
        # Powers of two around 1 / root, one above and one below it.
        exponent = 127 - int(np.rint(np.log2(root)))
        scale: Tensor = (rng.integers(-1, 2, shape, np.int8) + exponent).astype(np.uint8)
    else:
        scale = (rng.random(shape, np.float32) + np.float32(0.5)).astype(np.float16)
        scale *= np.float16(1 / root)
    zero = _bytes(rng, (experts, n * spec.groups // per_byte)) if spec.zero_point else ABSENT
    return Stored(spec, values.view(np.int8) if row.storage == "i8" else values, scale, zero)


def random_block(rng: np.random.Generator, spec: BlockSpec) -> StoredBlock:
    """All weights of a block, experts all different; biases of a tenth."""

    def bias(wanted: bool, n: int) -> Tensor:
        if not wanted:
            return ABSENT
        return (0.1 * rng.standard_normal((spec.experts, n), np.float32)).astype(np.float16)

    return StoredBlock(
        spec,
        random_stored(rng, spec.experts, spec.gate),
        None if spec.up is None else random_stored(rng, spec.experts, spec.up),
        random_stored(rng, spec.experts, spec.down),
        bias(spec.gate_bias, spec.gate.n),
        bias(spec.down_bias, spec.down.n),
    )


def _bytes(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8).reshape(shape)


def _floats(rng: np.random.Generator, shape: tuple[int, ...], spec: ProjectionSpec) -> Tensor:
    """Random sign and mantissa, one exponent: magnitudes in [1, 2) * 2^e, of mean square 7/3 * 4^e."""
    check_word("precision of weights without scales", spec.precision, ("f16", "f32"))
    exponent = int(np.rint(np.log2(np.sqrt(3 / (7 * spec.k)))))
    count = int(np.prod(shape))
    if spec.precision == "f16":
        bits = np.frombuffer(rng.bytes(2 * count), np.uint16) & np.uint16(0x83FF)
        bits |= np.uint16((exponent + 15) << 10)
        half: Tensor = bits.view(np.float16).reshape(shape)
        return half
    wide = np.frombuffer(rng.bytes(4 * count), np.uint32) & np.uint32(0x807FFFFF)
    wide |= np.uint32((exponent + 127) << 23)
    single: Tensor = wide.view(np.float32).reshape(shape)
    return single
