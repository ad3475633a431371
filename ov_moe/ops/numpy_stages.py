"""The four stages in NumPy, for machines without any OpenCL device: right, in float64, and slow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ov_moe import reference
from ov_moe.formats import unpack_nibbles
from ov_moe.kernels.attributes import FOUR_BIT, parse_activation, parse_projection
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.exponents import F16_MAX
from ov_moe.kernels.plan import ROW_INVALID, PlanLayout, PlanView
from ov_moe.kernels.stages import COMBINE, DOWN, GATE_UP, ROUTE
from ov_moe.spec import GateUpLayout

Attributes = Mapping[str, int | str]
Tensor = npt.NDArray[Any]


def _plan(attributes: Attributes, plan: Tensor) -> PlanView:
    sizes = (int(attributes[name]) for name in ("experts", "top_k", "max_tokens"))
    return PlanLayout(*sizes).view(plan.reshape(-1))


def _weights(attributes: Attributes, name: str, n: int, k: int, stored: Sequence[Tensor], expert: int) -> Tensor:
    """One expert's weights [N, K] in float64 from the three inputs of a projection."""
    spec = parse_projection(attributes, name, n, k)
    experts = int(attributes["experts"])
    values = stored[0].reshape(experts, -1)[expert]
    if not spec.group_size:
        return cast(Tensor, reference.dequantize(spec, values)[0])
    scale = stored[1].reshape(experts, -1)[expert]
    zeros = None
    if spec.zero_point and spec.precision in FOUR_BIT:  # packed over all experts: an expert may start inside a byte
        flat = unpack_nibbles(stored[2], False, experts * scale.size).reshape(experts, -1)[expert]
        padded = np.append(flat, [0] * (flat.size % 2)).astype(np.uint8)
        zeros = padded[0::2] | padded[1::2] << 4
    elif spec.zero_point:
        zeros = stored[2].reshape(experts, -1)[expert]
    return cast(Tensor, reference.dequantize(spec, values, scale, zeros)[0])


def _bias(attributes: Attributes, name: str, stored: Tensor, expert: int) -> Tensor | float:
    if attributes[f"{name}_bias"] == "none":
        return 0.0
    return cast(Tensor, stored.reshape(int(attributes["experts"]), -1)[expert].astype(np.float64))


def _scaled(attributes: Attributes, name: str, buffer: Tensor) -> bool:
    return attributes[f"{name}_exponents"] == "some" and buffer.dtype == np.float16


def _store(attributes: Attributes, name: str, buffer: Tensor, rows: slice, values: Tensor) -> None:
    """Rows of h or d; where they have exponents, all of a row's are the same here."""
    stored, columns = buffer.reshape(buffer.shape[0], -1), values.shape[1]
    if _scaled(attributes, name, buffer):
        largest = np.abs(values).max(axis=1, keepdims=True, initial=0.0)
        beyond = np.isfinite(largest) & (largest > F16_MAX)
        exponents = np.where(beyond, np.frexp(np.where(beyond, largest, 0.0))[1] - 15, 0)
        stored[rows, columns:], values = exponents, np.ldexp(values, -exponents)
    with np.errstate(over="ignore"):
        stored[rows, :columns] = values


def _read(attributes: Attributes, name: str, buffer: Tensor, columns: int, rows: int) -> Tensor:
    """The live rows of h or d in float64: values times 2^exponent, as ``_store`` wrote them."""
    stored = buffer.reshape(buffer.shape[0], -1)[:rows].astype(np.float64)
    if not _scaled(attributes, name, buffer):
        return stored[:, :columns]
    values: Tensor = np.ldexp(stored[:, :columns], stored[:, columns : columns + 1].astype(np.int64))
    return values


def _active(plan: PlanView) -> list[int]:
    return [int(expert) for expert in np.flatnonzero(np.diff(plan.row_offset))]


def route(attributes: Attributes, inputs: Sequence[Tensor], output: Tensor, config: KernelConfig) -> None:
    """Ids -> plan."""
    ids = inputs[0].reshape(inputs[0].shape[:2])
    output[...] = reference.plan(ids, int(attributes["experts"]), config.tile_m).reshape(output.shape)


def gate_up(attributes: Attributes, inputs: Sequence[Tensor], output: Tensor, config: KernelConfig) -> None:
    """x, plan, gate and up (apart, or in one with a bias) -> h."""
    plan = _plan(attributes, inputs[1])
    hidden, intermediate = int(attributes["hidden"]), int(attributes["intermediate"])
    tokens = plan.pair_of_row // int(attributes["top_k"])
    x = inputs[0].reshape(-1, hidden)
    for expert in _active(plan):
        rows = slice(plan.row_offset[expert], plan.row_offset[expert + 1])
        x_rows = x[tokens[rows]].astype(np.float64)
        if attributes["layout"] == "separate":
            gate = x_rows @ _weights(attributes, "gate", intermediate, hidden, inputs[2:5], expert).T
            up = x_rows @ _weights(attributes, "up", intermediate, hidden, inputs[5:8], expert).T
        else:
            both = x_rows @ _weights(attributes, "gate", 2 * intermediate, hidden, inputs[2:5], expert).T
            both += _bias(attributes, "gate", inputs[5], expert)
            gate, up = reference.split_gate_up(both, cast(GateUpLayout, attributes["layout"]))
        _store(attributes, "h", output, rows, reference.activate(parse_activation(attributes), gate, up))


def down(attributes: Attributes, inputs: Sequence[Tensor], output: Tensor, config: KernelConfig) -> None:
    """h, plan, down -> d."""
    plan = _plan(attributes, inputs[1])
    hidden, intermediate = int(attributes["hidden"]), int(attributes["intermediate"])
    h = _read(attributes, "h", inputs[0], intermediate, plan.live_rows)
    for expert in _active(plan):
        rows = slice(plan.row_offset[expert], plan.row_offset[expert + 1])
        weights = _weights(attributes, "down", hidden, intermediate, inputs[2:5], expert)
        _store(attributes, "d", output, rows, h[rows] @ weights.T + _bias(attributes, "down", inputs[5], expert))


def combine(attributes: Attributes, inputs: Sequence[Tensor], output: Tensor, config: KernelConfig) -> None:
    """d, plan, top-k weights -> y."""
    plan, hidden, top_k = _plan(attributes, inputs[1]), int(attributes["hidden"]), int(attributes["top_k"])
    d, y = _read(attributes, "d", inputs[0], hidden, plan.live_rows), output.reshape(-1, hidden)
    rows = plan.row_of_pair.reshape(-1, top_k)
    weights = inputs[2].reshape(-1, top_k)[: plan.tokens].astype(np.float64)
    total = np.zeros((plan.tokens, hidden))
    for slot in range(top_k):
        some = np.flatnonzero(rows[:, slot] >= 0)
        total[some] += weights[some, slot, None] * d[rows[some, slot]]
    total[(rows == ROW_INVALID).any(axis=1)] = np.nan
    y[: plan.tokens] = total


STAGES: dict[str, Callable[[Attributes, Sequence[Tensor], Tensor, KernelConfig], None]] = {
    ROUTE.entry: route,
    GATE_UP.entry: gate_up,
    DOWN.entry: down,
    COMBINE.entry: combine,
}
