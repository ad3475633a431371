"""Models whose experts stand one by one, node by node as optimum-intel exports them; without torch.

``unrolled`` is Mixtral and Qwen2-MoE of transformers 4.57, ``sorted`` is GraniteMoE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from ov_moe.testing.block_weights import BlockWeights, Form, Precisions, Recipe
from ov_moe.testing.nodes import chained, integer, named, parameter, vector
from ov_moe.testing.weights import RawWeights, decompressed

Family = Literal["unrolled", "sorted"]
EVERYTHING = 2**31 - 1


def unrolled_model(
    family: Family,
    *,
    experts: int,
    top_k: int,
    hidden: int,
    intermediate: int,
    rng: np.random.Generator,
    precision: Precisions = "u4",
    group_size: int = 32,
    symmetric: bool = False,
    shared_expert: bool = False,
    blocks: int = 1,
    topk_as_inputs: bool = False,
) -> tuple[ov.Model, list[BlockWeights]]:
    """Builds a model of one or more blocks; outputs are O(1) for standard normal x.

    Args:
        family: ``sorted`` has gate and up in one GEMM, as halves.
        experts, top_k, hidden, intermediate: E, k, H and I.
        rng: Source of all weights.
        precision, group_size, symmetric: Of the weights; see ``Recipe``. 8-bit ones have one scale a channel.
        shared_expert: A dense layer of the same x is added behind.
        blocks: More than one makes a residual chain, x + block(x).
        topk_as_inputs: No router: further inputs are "ids" i64 [T, k] and "weights" f32 [T, k].

    Returns:
        A model with f32 input "x" [B, S, H] and output "y" of the same shape, and the weights of each block.
        Nodes are called ``blocks.<i>/<role>`` and ``blocks.<i>/<e>/<role>``.
    """
    form = Form(layout="halves" if family == "sorted" else "separate", shared_expert=shared_expert)
    recipe = Recipe(experts, hidden, intermediate, precision, group_size, 0, symmetric, form)
    weights = [recipe.draw(rng) for _ in range(blocks)]
    given: list[ov.Node] = []
    if topk_as_inputs:
        given = [parameter("ids", [-1, top_k], ov.Type.i64), parameter("weights", [-1, top_k], ov.Type.f32)]

    def block(index: int, value: ov.Node) -> ov.Node:
        return _block(f"blocks.{index}", family, value, given, weights[index], top_k)

    return chained([parameter("x", [-1, -1, hidden], ov.Type.f32), *given], blocks, block), weights


def _block(
    name: str, family: Family, value: ov.Node, given: list[ov.Node], weights: BlockWeights, top_k: int
) -> ov.Node:
    """Router, experts and shared expert on ``value`` [B, S, H]."""
    hidden = weights.gate.shape[2]
    x = named(ops.reshape(value, vector(-1, hidden), special_zero=False), f"{name}/x")
    ids, factors = (n.output(0) for n in given) if given else _route(name, family, x, weights, top_k)
    zeros = ops.broadcast(np.float32(0), ops.concat([_rows_of(value), vector(hidden)], 0))
    tokens = Tokens(name, x, ids, factors, named(zeros, f"{name}/zeros"))
    y = unrolled_experts(tokens, weights.raw) if family == "unrolled" else sorted_experts(tokens, weights.raw)
    if weights.shared is not None:
        y = ops.add(y, ops.matmul(x, ov.op.Constant(weights.shared), False, True))
    return ops.reshape(y, ops.shape_of(value), special_zero=False)


@dataclass(frozen=True)
class Tokens:
    """What the experts of one block read, and the zeros that they are added to."""

    name: str
    x: ov.Node
    ids: ov.Output
    factors: ov.Output
    zeros: ov.Node

    def add(self, node: ov.Node, role: str) -> ov.Node:
        """The node under its name in this block."""
        return named(node, f"{self.name}/{role}")

    def index_add(self, total: ov.Node, index: ov.Node, updates: ov.Node, role: str) -> ov.Node:
        """``total.index_add(0, index, updates)`` for i32 ``index`` [rows]."""
        column = self.add(ops.reshape(index, vector(-1, 1, kind=np.int32), special_zero=False), f"{role}column")
        bounds = vector(0, 0), vector(1, EVERYTHING), vector(1, 1), vector(0, 1)
        row = self.add(ops.slice(total, *bounds), f"{role}row")
        shape = self.add(ops.shape_of(row, "i32"), f"{role}row_shape")
        places = self.add(ops.broadcast(column, shape, broadcast_spec="BIDIRECTIONAL"), f"{role}places")
        rows = self.add(ops.broadcast(updates, shape, broadcast_spec="BIDIRECTIONAL"), f"{role}rows")
        scatter = ops.scatter_elements_update(total, places, rows, integer(0), reduction="sum")
        return self.add(scatter, f"{role}scatter")


def unrolled_experts(tokens: Tokens, raw: tuple[RawWeights, ...]) -> ov.Node:
    """y [T, H]: expert by expert, each adds its rows to the sum so far."""
    add, hidden, total = tokens.add, raw[0].values.shape[2], tokens.zeros
    count = raw[0].values.shape[0]
    one_hot = add(ops.one_hot(tokens.ids, integer(count), integer(1), integer(0), 2), "one_hot")
    mask = add(ops.transpose(one_hot, vector(2, 1, 0)), "mask")
    data = ops.reshape(ops.unsqueeze(tokens.x, integer(0)), vector(-1, hidden), special_zero=False)
    column = ops.unsqueeze(tokens.factors, integer(2))
    shape = add(ops.shape_of(column, "i32"), "factors_shape")
    pairs = ops.reduce_prod(ops.slice(shape, vector(0), vector(2), vector(1), vector(0)), integer(0), keep_dims=True)
    flat_shape = ops.concat([pairs, vector(-1, kind=np.int32)], 0)
    flat = add(ops.reshape(column, flat_shape, special_zero=True), "factors_flat")
    width = ops.split(shape, integer(0), 3).output(1)
    for e in range(count):
        found = add(ops.non_zero(add(ops.gather(mask, integer(e), integer(0)), f"{e}/choice"), "i64"), f"{e}/where")
        split = add(ops.split(found, integer(0), 2), f"{e}/pairs")
        token = add(ops.convert(ops.squeeze(split.output(1), integer(0)), "i32"), f"{e}/token")
        slot = ops.convert(ops.squeeze(split.output(0), integer(0)), "i32")
        rows = add(ops.gather(data, token, integer(0)), f"{e}/gather")
        for view in ((0, 1, hidden), (1, -1, 0), (1, 0, hidden)):
            rows = ops.reshape(rows, vector(*view), special_zero=True)
        rows = add(ops.reshape(rows, vector(-1, hidden), special_zero=False), f"{e}/x")
        gate = add(ops.matmul(rows, decompressed(raw[0], f"{tokens.name}/{e}/gate_w", e), False, True), f"{e}/gate")
        up = add(ops.matmul(rows, decompressed(raw[1], f"{tokens.name}/{e}/up_w", e), False, True), f"{e}/up")
        gated = add(ops.multiply(add(ops.swish(gate), f"{e}/swish"), up), f"{e}/gated")
        down = add(ops.matmul(gated, decompressed(raw[2], f"{tokens.name}/{e}/down_w", e), False, True), f"{e}/down")
        line = add(ops.multiply(token, width), f"{e}/line")
        place = add(ops.add(slot, line), f"{e}/place")
        factor = add(ops.gather(flat, place, integer(0)), f"{e}/factor_gather")
        factor = add(ops.reshape(factor, vector(0, 1), special_zero=True), f"{e}/factor")
        total = tokens.index_add(total, token, add(ops.multiply(down, factor), f"{e}/weighted"), f"{e}/")
    return total


def sorted_experts(tokens: Tokens, raw: tuple[RawWeights, ...]) -> ov.Node:
    """y [T, H]: pairs sorted by expert, a slice of them for each."""
    add, count = tokens.add, raw[0].values.shape[0]
    top_k = tokens.ids.get_partial_shape()[1].get_length()
    flat = add(ops.reshape(tokens.ids, vector(-1), special_zero=True), "ids_flat")
    sort = add(ops.topk(flat, ops.squeeze(ops.shape_of(flat)), 0, "min", "value", "i64"), "sort")
    token = add(ops.divide(sort.output(1), vector(top_k)), "token")
    token = ops.convert(ops.convert(ops.convert(token, "i32"), "i64"), "i32")
    counts = _counts(tokens, count)
    rows = add(ops.gather(tokens.x, token, integer(0)), "gather")
    ends: list[ov.Node] = [vector(0)]
    end: ov.Node | None = None
    for e in range(count):
        own = add(ops.gather(counts, integer(e), integer(0)), f"{e}/count")
        end = own if end is None else add(ops.add(end, own), f"{e}/end")
        ends.append(ops.reshape(end, vector(-1), special_zero=False))

    def projected(rows: ov.Node | ov.Output, raw: RawWeights, role: str) -> ov.Node:
        parts = []
        for e in range(count):
            part = add(ops.slice(rows, ends[e], ends[e + 1], vector(1), vector(0)), f"{e}/{role}_rows")
            weight = decompressed(raw, f"{tokens.name}/{e}/{role}_w", e)
            parts.append(add(ops.matmul(part, weight, False, True), f"{e}/{role}"))
        return add(ops.concat(parts, 0), role)

    gate_up = projected(rows, raw[0], "gate_up")
    width = ops.gather(ops.shape_of(gate_up, "i32"), vector(-1), integer(0))
    half = add(ops.divide(width, vector(2, kind=np.int32)), "half")
    lengths = ops.concat([half, vector(-1, kind=np.int32)], 0)
    halves = add(ops.variadic_split(gate_up, integer(-1), lengths), "halves")
    gated = add(ops.multiply(add(ops.swish(halves.output(0)), "swish"), halves.output(1)), "gated")
    down = projected(gated, raw[1], "down")
    flat = add(ops.reshape(tokens.factors, vector(-1), special_zero=True), "factors_flat")
    factor = add(ops.gather(flat, ops.convert(sort.output(1), "i32"), integer(0)), "factor_gather")
    weighted = add(ops.multiply(down, add(ops.unsqueeze(factor, integer(1)), "factor")), "weighted")
    return tokens.index_add(tokens.zeros, token, weighted, "")


def _counts(tokens: Tokens, count: int) -> ov.Node:
    """Rows of each expert, i64 [E]."""
    add, shape = tokens.add, ops.shape_of(tokens.factors)
    rows = ops.gather(shape, vector(0), integer(0))
    zeros = ops.broadcast(np.float32(0), ops.concat([rows, vector(count)], 0))
    ones = add(ops.broadcast(integer(1), shape), "ones")
    ones = ops.slice(ones, vector(0, 0), shape, vector(1, 1), vector(0, 1))
    ids = ops.convert(tokens.ids, "i32")
    marks = add(ops.scatter_elements_update(zeros, ids, ops.convert(ones, "f32"), integer(1)), "marks")
    return add(ops.reduce_sum(ops.convert(marks, "i64"), vector(0)), "counts")


def _route(name: str, family: Family, x: ov.Node, weights: BlockWeights, top_k: int) -> tuple[ov.Output, ov.Output]:
    """(ids i64 [T, k], weights f32 [T, k]); both families give the same ones."""
    assert weights.router is not None
    scores = ops.matmul(x, ov.op.Constant(weights.router), False, True)
    if family == "unrolled":
        scores = ops.softmax(scores, 1)
    topk = named(ops.topk(scores, integer(top_k), -1, "max", "value", "i64"), f"{name}/topk")
    if family == "sorted":
        return topk.output(1), named(ops.softmax(topk.output(0), 1), f"{name}/norm").output(0)
    total = ops.reduce_sum(topk.output(0), vector(-1), keep_dims=True)
    return topk.output(1), named(ops.divide(topk.output(0), total), f"{name}/norm").output(0)


def _rows_of(value: ov.Node) -> ov.Node:
    """i64 [1], the number of tokens B * S of [B, S, H]."""
    shape = ops.shape_of(value)
    batch, length = (ops.gather(shape, integer(axis), integer(0)) for axis in (0, 1))
    return ops.multiply(ops.reshape(batch, vector(1), special_zero=False), ops.unsqueeze(length, integer(0)))
