"""The experts of the test models: every one on every token, and the sum weighted by the dense routing."""

from __future__ import annotations

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset15 as ops

from ov_moe.spec import Activation
from ov_moe.testing.block_weights import BlockWeights
from ov_moe.testing.nodes import dimension, named, vector
from ov_moe.testing.weights import decompressed


def experts(name: str, value: ov.Node, x: ov.Node, ids: ov.Node, factors: ov.Node, weights: BlockWeights) -> ov.Node:
    """The experts on x [T, H]: [T, H], or what ``form.ends`` says; ``value`` is x before it was flattened."""
    form, (count, _, hidden) = weights.form, weights.gate.shape

    def add(node: ov.Node, role: str) -> ov.Node:
        return named(node, f"{name}/{role}")

    tile = add(ops.tile(x, np.array([count, 1])), "tile")
    tokens = add(ops.reshape(tile, [count, -1, hidden], special_zero=False), "view")
    gate, up = _separate(name, tokens, weights) if form.layout == "separate" else _fused(name, tokens, weights)
    gated = add(_activated(name, gate, up, form.activation), "gated")
    down = add(ops.matmul(gated, decompressed(weights.raw[-1], f"{name}/down_w"), False, True), "down")
    if weights.down_bias is not None:
        down = add(ops.add(down, _bias(weights.down_bias, f"{name}/down_bias")), "down_add")
    batch, sequence = (dimension(value, axis) for axis in (0, 1))
    rows = dimension(ids, 0) if form.ends != "batch" else ops.multiply(batch, sequence)
    routing = _dense_routing(name, ids, factors, rows, count)
    if form.ends == "flat":
        results = add(ops.reshape(down, [count, 0, hidden], special_zero=True), "view_1")
        by_expert = add(ops.reshape(routing, [count, 0], special_zero=True), "view_2")
        routing = add(ops.unsqueeze(by_expert, np.int64(2)), "unsqueeze")
    else:
        first = batch if form.ends == "batch" else rows
        shape = ops.concat([vector(count), first, vector(-1), vector(hidden)], 0)
        results = add(ops.reshape(down, shape, special_zero=False), "view_1")
        shape = ops.concat([vector(count), first, vector(-1)], 0) if form.ends == "batch" else vector(count, 0, 1)
        by_expert = add(ops.reshape(routing, shape, special_zero=form.ends == "slots"), "view_2")
        routing = add(ops.unsqueeze(by_expert, np.int64(3)), "unsqueeze")
    total = add(ops.reduce_sum(add(ops.multiply(results, routing), "weighted"), np.array([0])), "sum")
    if weights.shared is None:
        return total
    shared = add(ops.matmul(x, ov.op.Constant(weights.shared), False, True), "shared")
    if form.ends == "batch":
        shared = ops.reshape(shared, ops.concat([batch, vector(-1), vector(hidden)], 0), special_zero=False)
    return add(ops.add(shared, total), "with_shared")


def _separate(name: str, tokens: ov.Node, weights: BlockWeights) -> list[ov.Node]:
    """(gate, up) of two GEMMs."""
    parts = zip(weights.raw, ("gate", "up"), strict=False)
    dense = [(decompressed(raw, f"{name}/{part}_w"), part) for raw, part in parts]
    return [named(ops.matmul(tokens, w, False, True), f"{name}/{part}") for w, part in dense]


def _fused(name: str, tokens: ov.Node, weights: BlockWeights) -> list[ov.Output]:
    """(gate, up) of one GEMM."""
    form, intermediate = weights.form, weights.gate.shape[1]
    both = ops.matmul(tokens, decompressed(weights.raw[0], f"{name}/gate_up_w"), False, True)
    both = named(both, f"{name}/gate_up")
    if weights.gate_bias is not None:
        both = named(ops.add(both, _bias(weights.gate_bias, f"{name}/gate_up_bias")), f"{name}/gate_up_add")
    if form.layout == "halves" and form.parts != "slice":
        lengths = vector(intermediate, -1)
        axis = np.int64(2)
        split = ops.split(both, axis, 2) if form.parts == "split" else ops.variadic_split(both, axis, lengths)
        return list(named(split, f"{name}/parts").outputs())
    far = 2**63 - 1
    bounds = (
        ([0, far, 2], [1, far, 2]) if form.layout == "interleaved" else ([0, intermediate, 1], [intermediate, far, 1])
    )
    return [
        named(ops.slice(both, *(vector(b) for b in bound), vector(2)), f"{name}/{part}_part").output(0)
        for bound, part in zip(bounds, ("gate", "up"), strict=True)
    ]


def _activated(name: str, gate: ov.Output, up: ov.Output, activation: Activation) -> ov.Node:
    if activation.limit is not None:
        up = named(ops.clamp(up, -activation.limit, activation.limit), f"{name}/up_clamp")
        limit = np.full((1, 1, 1), activation.limit, np.float32)
        gate = named(ops.minimum(gate, limit), f"{name}/gate_clamp")
    if activation.up_offset:
        up = named(ops.add(up, np.full((1, 1, 1), activation.up_offset, np.float32)), f"{name}/up_offset")
    if activation.kind == "swiglu":
        act = ops.swish(gate) if activation.beta == 1 else ops.swish(gate, np.float32(activation.beta))
    elif activation.kind == "reglu":
        act = ops.relu(gate)
    else:
        act = ops.gelu(gate, activation.kind.removeprefix("geglu_"))
    return ops.multiply(named(act, f"{name}/swish"), up)


def _bias(values: NDArray[np.floating], name: str) -> ov.Node:
    """[E, 1, N]; an f16 one through a Convert."""
    stored = named(ov.op.Constant(values[:, None, :]), name)
    return ops.convert(stored, "f32") if values.dtype == np.float16 else stored


def _dense_routing(name: str, ids: ov.Node, factors: ov.Node, rows: ov.Node, count: int) -> ov.Node:
    """[E, T], zero where an expert does not see a token."""
    zeros = named(ops.broadcast(np.float32(0), ops.concat([rows, vector(count)], 0)), f"{name}/zeros")
    stop, start, step = ops.shape_of(ids, "i32"), np.zeros(2, np.int32), np.ones(2, np.int32)
    updates = named(ops.slice(factors, start, stop, step, np.array([0, 1])), f"{name}/slice")
    dense = named(ops.scatter_elements_update(zeros, ids, updates, np.int64(1)), f"{name}/scatter")
    return named(ops.transpose(dense, np.array([1, 0], np.int32)), f"{name}/transpose")
