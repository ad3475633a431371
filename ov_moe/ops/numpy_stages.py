"""The four stages in NumPy, for machines without any OpenCL device: right, in float64, and slow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ov_moe import reference
from ov_moe.element_types import unpack_nibbles
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.exponents import F16_MAX
from ov_moe.kernels.formats import FORMATS, decode
from ov_moe.kernels.plan import ROW_INVALID, PlanView
from ov_moe.kernels.stages import COMBINE, DOWN, GATE_UP, ROUTE
from ov_moe.spec import ProjectionSpec

Tensor = npt.NDArray[Any]


def _plan(block: BlockSpec, plan: Tensor) -> PlanView:
    return block.plan_layout.view(plan.reshape(-1))


def _weights(experts: int, spec: ProjectionSpec, stored: Sequence[Tensor], expert: int) -> Tensor:
    """One expert's weights [N, K] in float64 from the three inputs of a projection."""
    values = stored[0].reshape(experts, -1)[expert]
    if not spec.group_size:
        return decode(spec, values, None, None)
    scale, zeros = stored[1].reshape(experts, -1)[expert], None
    if spec.zero_point:  # packed over all experts: an expert may start inside a byte
        flat = stored[2].reshape(-1)
        codes = unpack_nibbles(flat, False, experts * scale.size) if FORMATS[spec.precision].packed else flat
        zeros = codes.reshape(experts, -1)[expert]
    return decode(spec, values, scale, zeros)


def _bias(experts: int, some: bool, stored: Tensor, expert: int) -> Tensor | float:
    return cast(Tensor, stored.reshape(experts, -1)[expert].astype(np.float64)) if some else 0.0


def _store(exponents: bool, buffer: Tensor, rows: slice, values: Tensor) -> None:
    """Rows of h or d; where they have exponents, all of a row's are the same here."""
    stored, columns = buffer.reshape(buffer.shape[0], -1), values.shape[1]
    if exponents and buffer.dtype == np.float16:
        largest = np.abs(values).max(axis=1, keepdims=True, initial=0.0)
        beyond = np.isfinite(largest) & (largest > F16_MAX)
        powers = np.where(beyond, np.frexp(np.where(beyond, largest, 0.0))[1] - 15, 0)
        stored[rows, columns:], values = powers, np.ldexp(values, -powers)
    with np.errstate(over="ignore"):
        stored[rows, :columns] = values


def _read(exponents: bool, buffer: Tensor, columns: int, rows: int) -> Tensor:
    """The live rows of h or d in float64: values times 2^exponent, as ``_store`` wrote them."""
    stored = buffer.reshape(buffer.shape[0], -1)[:rows].astype(np.float64)
    if not (exponents and buffer.dtype == np.float16):
        return stored[:, :columns]
    values: Tensor = np.ldexp(stored[:, :columns], stored[:, columns : columns + 1].astype(np.int64))
    return values


def _active(plan: PlanView) -> list[int]:
    return [int(expert) for expert in np.flatnonzero(np.diff(plan.row_offset))]


def route(block: BlockSpec, inputs: Sequence[Tensor], output: Tensor, config: KernelConfig) -> None:
    """Ids -> plan."""
    ids = inputs[0].reshape(inputs[0].shape[:2])
    output[...] = reference.plan(ids, block.experts, config.micro.tile_m).reshape(output.shape)


def gate_up(block: BlockSpec, inputs: Sequence[Tensor], output: Tensor, config: KernelConfig) -> None:
    """x, plan, gate and up (apart, or in one with a bias) -> h."""
    plan = _plan(block, inputs[1])
    tokens = plan.pair_of_row // block.top_k
    x = inputs[0].reshape(-1, block.hidden)
    for expert in _active(plan):
        rows = slice(plan.row_offset[expert], plan.row_offset[expert + 1])
        x_rows = x[tokens[rows]].astype(np.float64)
        gate = x_rows @ _weights(block.experts, block.gate, inputs[2:5], expert).T
        if block.up is not None:
            up = x_rows @ _weights(block.experts, block.up, inputs[5:8], expert).T
        else:
            gate += _bias(block.experts, block.gate_bias, inputs[5], expert)
            gate, up = reference.split_gate_up(gate, block.layout)
        _store(block.h_exponents, output, rows, reference.activate(block.activation, gate, up))


def down(block: BlockSpec, inputs: Sequence[Tensor], output: Tensor, config: KernelConfig) -> None:
    """h, plan, down -> d."""
    plan = _plan(block, inputs[1])
    h = _read(block.h_exponents, inputs[0], block.intermediate, plan.live_rows)
    for expert in _active(plan):
        rows = slice(plan.row_offset[expert], plan.row_offset[expert + 1])
        weights = _weights(block.experts, block.down, inputs[2:5], expert)
        bias = _bias(block.experts, block.down_bias, inputs[5], expert)
        _store(block.d_exponents, output, rows, h[rows] @ weights.T + bias)


def combine(block: BlockSpec, inputs: Sequence[Tensor], output: Tensor, config: KernelConfig) -> None:
    """d, plan, top-k weights -> y."""
    plan = _plan(block, inputs[1])
    d, y = _read(block.d_exponents, inputs[0], block.hidden, plan.live_rows), output.reshape(-1, block.hidden)
    rows = plan.row_of_pair.reshape(-1, block.top_k)
    weights = inputs[2].reshape(-1, block.top_k)[: plan.tokens].astype(np.float64)
    total = np.zeros((plan.tokens, block.hidden))
    for slot in range(block.top_k):
        some = np.flatnonzero(rows[:, slot] >= 0)
        total[some] += weights[some, slot, None] * d[rows[some, slot]]
    total[(rows == ROW_INVALID).any(axis=1)] = np.nan
    y[: plan.tokens] = total


STAGES: dict[str, Callable[[BlockSpec, Sequence[Tensor], Tensor, KernelConfig], None]] = {
    ROUTE.entry: route,
    GATE_UP.entry: gate_up,
    DOWN.entry: down,
    COMBINE.entry: combine,
}
