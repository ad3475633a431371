"""Models with Mixture-of-Experts blocks, node by node as optimum-intel exports Qwen3-MoE; without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset15 as ops

from ov_moe.spec import Precision

Router = Literal["softmax", "softmax-nonorm", "sigmoid"]
Edit = Callable[[ov.Model], None]
Precisions = Precision | tuple[Precision, Precision, Precision]
RANGES = {"u4": (0, 15), "i4": (-8, 7), "u8": (0, 255), "i8": (-128, 127)}


@dataclass(frozen=True)
class RawWeights:
    """What a projection's constants hold: values [E, N, K], scale f16 and zero point [E, N, G] (or None)."""

    precision: Precision
    values: NDArray[np.generic]
    scale: NDArray[np.float16] | None = None
    zero_point: NDArray[np.int64] | None = None

    def dense(self) -> NDArray[np.float64]:
        """The float64 [E, N, K] that the constants stand for, without any rounding on the way."""
        if self.scale is None:
            return self.values.astype(np.float64)
        experts, n, k = self.values.shape
        grouped = self.values.reshape(experts, n, self.scale.shape[2], -1).astype(np.float64)
        if self.zero_point is not None:
            grouped = grouped - self.zero_point[..., None]
        return (grouped * self.scale[..., None].astype(np.float64)).reshape(experts, n, k)


@dataclass(frozen=True)
class BlockWeights:
    """Weights of one block: router f32 [E, H] or None, float64 gate and up [E, I, H], float64 down [E, H, I].

    ``raw`` holds what the constants of gate, up and down hold, in this order.
    """

    router: NDArray[np.float32] | None
    gate: NDArray[np.float64]
    up: NDArray[np.float64]
    down: NDArray[np.float64]
    raw: tuple[RawWeights, RawWeights, RawWeights]


def moe_block_model(
    *,
    experts: int,
    top_k: int,
    hidden: int,
    intermediate: int,
    rng: np.random.Generator,
    precision: Precisions = "u4",
    group_size: int = 32,
    group_size_8bit: int = 0,
    symmetric: bool = False,
    router: Router = "softmax",
    blocks: int = 1,
    ids_input: bool = False,
    topk_as_inputs: bool = False,
) -> tuple[ov.Model, list[BlockWeights]]:
    """Builds a model of one or more blocks; outputs are O(1) for standard normal x.

    Args:
        experts: E.
        top_k: k.
        hidden: H.
        intermediate: I.
        rng: Source of all weights.
        precision: Of all projections, or of (gate, up, down).
        group_size: Of 4-bit weights; 0 gives one scale a channel.
        group_size_8bit: The same of 8-bit weights, which exports scale by channel.
        symmetric: Leaves out the zero points of u4 and u8; i4 and i8 never have one.
        router: What scores become before and after the TopK.
        blocks: More than one makes a residual chain, x + block(x); all read the same "ids" and "weights".
        ids_input: The ids are an i64 input "ids" [T, k] in place of the TopK; their weights are still scores.
        topk_as_inputs: No router: inputs are x [T, H], "ids" i32 [T, k] and "weights" f32 [T, k].

    Returns:
        A model with f32 input "x" [B, S, H] and output "y" of the same shape, both [T, H] with
        ``topk_as_inputs``; and the weights of each block. Nodes are called ``blocks.<i>/<role>``.
    """
    shape = [-1, hidden] if topk_as_inputs else [-1, -1, hidden]
    inputs = {"x": _parameter("x", shape, ov.Type.f32)}
    if topk_as_inputs or ids_input:
        inputs["ids"] = _parameter("ids", [-1, top_k], ov.Type.i32 if topk_as_inputs else ov.Type.i64)
    if topk_as_inputs:
        inputs["weights"] = _parameter("weights", [-1, top_k], ov.Type.f32)
    value = inputs["x"]
    weights: list[BlockWeights] = []
    precisions = (precision,) * 3 if isinstance(precision, str) else precision

    def stored(which: int, n: int, k: int) -> RawWeights:
        kind = precisions[which]
        group = group_size if "4" in kind else group_size_8bit
        return random_weights(rng, kind, experts=experts, n=n, k=k, group=group, symmetric=symmetric)

    for index in range(blocks):
        gate, up, down = raw = (
            stored(0, intermediate, hidden),
            stored(1, intermediate, hidden),
            stored(2, hidden, intermediate),
        )
        scores = None if topk_as_inputs else rng.standard_normal((experts, hidden), np.float32) / hidden**0.5
        weights.append(BlockWeights(scores, gate.dense(), up.dense(), down.dense(), raw))
        x = value if topk_as_inputs else ops.reshape(value, [-1, hidden], special_zero=False)
        if scores is None:
            ids, factors = inputs["ids"], inputs["weights"]
        else:
            ids, factors = _route(f"blocks.{index}", x, scores, top_k=top_k, router=router, ids=inputs.get("ids"))
        result = _experts(f"blocks.{index}", x, ids, factors, raw)
        if not topk_as_inputs:
            result = ops.reshape(result, ops.shape_of(value), special_zero=False)
        value = ops.add(value, result) if blocks > 1 else result
    result = ops.result(value)
    result.input_value(0).set_names({"y"})
    return ov.Model([result], list(inputs.values()), "moe"), weights


def random_weights(
    rng: np.random.Generator,
    precision: Precision,
    *,
    experts: int,
    n: int,
    k: int,
    group: int,
    symmetric: bool,
) -> RawWeights:
    """Weights of a standard deviation of about 1 / sqrt(K); ``group`` 0 means one scale a channel."""
    if precision in ("f32", "f16"):
        dense = rng.standard_normal((experts, n, k)) / k**0.5
        return RawWeights(precision, dense.astype(np.float16 if precision == "f16" else np.float32))
    low, high = RANGES[precision]
    values = rng.integers(low, high + 1, (experts, n, k))
    groups = (experts, n, k // (group or k))
    scale = rng.uniform(0.7, 1.3, groups) * 3.4 / (high - low) / k**0.5
    zero_point = None
    if not symmetric and low == 0:
        zero_point = rng.integers(high // 2 - high // 8, high // 2 + high // 8 + 2, groups)
    return RawWeights(precision, values, scale.astype(np.float16), zero_point)


def pack(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """4-bit integers to bytes, the first of two in the low nibble."""
    nibbles = np.bitwise_and(values.reshape(-1).astype(np.int64), 15).astype(np.uint8)
    nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8))
    packed: NDArray[np.uint8] = nibbles[0::2] | nibbles[1::2] * np.uint8(16)
    return packed


def integer_constant(values: NDArray[np.generic], precision: Precision, shape: Sequence[int]) -> ov.op.Constant:
    """A constant of u4, i4, u8 or i8 that owns its bytes."""
    if precision in ("u4", "i4"):
        packed = ov.Tensor(pack(values), ov.Shape(list(shape)), getattr(ov.Type, precision))
        return ov.op.Constant(packed, shared_memory=False)
    return ov.op.Constant(values.reshape(shape).astype(np.int8 if precision == "i8" else np.uint8))


def decompressed(raw: RawWeights, name: str) -> ov.Node:
    """The chain from the constants to f32 [E, N, K]."""
    if raw.scale is None:
        stored = _named(ov.op.Constant(np.ascontiguousarray(raw.values)), name)
        return stored if raw.precision == "f32" else _named(ops.convert(stored, "f32"), f"{name}/convert")
    experts, n, k = raw.values.shape
    groups = raw.scale.shape[2]
    grouped = [experts, n] if groups == 1 else [experts, n, groups]
    stored = _named(integer_constant(raw.values, raw.precision, [*grouped, k // groups]), name)
    value = ops.convert(stored, "f16")
    if raw.zero_point is not None:
        zero_point = integer_constant(raw.zero_point, raw.precision, [*grouped, 1])
        zero_point = ops.convert(_named(zero_point, f"{name}/zero_point"), "f16")
        value = _named(ops.subtract(value, zero_point), f"{name}/zero_point/subtract")
    scale = _named(ov.op.Constant(raw.scale.reshape(*grouped, 1)), f"{name}/scale")
    value = _named(ops.multiply(value, scale), f"{name}/fq_weights_1")
    if groups > 1:
        value = _named(ops.reshape(value, [experts, n, k], special_zero=False), f"{name}/reshape")
    return _named(ops.convert(value, "f32"), f"{name}/fq_weights_1/convert")


def _parameter(name: str, shape: list[int], kind: ov.Type) -> ov.Node:
    node = _named(ops.parameter(ov.PartialShape(shape), kind), name)
    node.output(0).set_names({name})
    return node


def _route(
    name: str, x: ov.Node, weights: NDArray[np.float32], *, top_k: int, router: Router, ids: ov.Node | None
) -> tuple[ov.Node, ov.Node]:
    """(ids i32 [T, k], weights f32 [T, k])."""
    logits = ops.matmul(x, ov.op.Constant(weights), False, True)
    scores = ops.sigmoid(logits) if router == "sigmoid" else ops.softmax(logits, axis=-1)
    if ids is None:
        topk = _named(ops.topk(scores, np.int64(top_k), -1, "max", "value", "i64"), f"{name}/topk")
        chosen, ids = topk.output(0), topk.output(1)
    else:
        chosen = ops.gather_elements(scores, ids, 1).output(0)
    ids = _named(ops.convert(ids, "i32"), f"{name}/ids")
    if router == "softmax-nonorm":
        return ids, chosen
    return ids, _named(ops.divide(chosen, ops.reduce_sum(chosen, [-1], keep_dims=True)), f"{name}/norm")


def _experts(name: str, x: ov.Node, ids: ov.Node, factors: ov.Node, raw: Sequence[RawWeights]) -> ov.Node:
    """Every expert on every token, and the sum weighted by the dense routing: [T, H]."""
    experts, _, hidden = raw[0].values.shape

    def add(node: ov.Node, role: str) -> ov.Node:
        return _named(node, f"{name}/{role}")

    gate_w, up_w, down_w = (decompressed(r, f"{name}/{p}_w") for r, p in zip(raw, ("gate", "up", "down"), strict=True))
    tile = add(ops.tile(x, np.array([experts, 1])), "tile")
    tokens = add(ops.reshape(tile, [experts, -1, hidden], special_zero=False), "view")
    gate = add(ops.matmul(tokens, gate_w, False, True), "gate")
    up = add(ops.matmul(tokens, up_w, False, True), "up")
    gated = add(ops.multiply(add(ops.swish(gate), "swish"), up), "gated")
    down = add(ops.matmul(gated, down_w, False, True), "down")
    results = add(ops.reshape(down, [experts, 0, hidden], special_zero=True), "view_1")
    rows = ops.gather(ops.shape_of(ids), np.array([0]), np.int64(0))
    dense_shape = ops.concat([rows, ops.constant(np.array([experts]))], 0)
    zeros = add(ops.broadcast(np.float32(0), dense_shape), "zeros")
    stop, start, step = ops.shape_of(ids, "i32"), np.zeros(2, np.int32), np.ones(2, np.int32)
    updates = add(ops.slice(factors, start, stop, step, np.array([0, 1])), "slice")
    dense = add(ops.scatter_elements_update(zeros, ids, updates, np.int64(1)), "scatter")
    by_expert = add(ops.transpose(dense, np.array([1, 0], np.int32)), "transpose")
    by_expert = add(ops.reshape(by_expert, [experts, 0], special_zero=True), "view_2")
    routing = add(ops.unsqueeze(by_expert, np.int64(2)), "unsqueeze")
    return add(ops.reduce_sum(add(ops.multiply(results, routing), "weighted"), np.array([0])), "sum")


def _named(node: ov.Node, name: str) -> ov.Node:
    node.set_friendly_name(name)
    return node


def find_node(model: ov.Model, name: str) -> ov.Node:
    """The node of this friendly name."""
    return next(node for node in model.get_ops() if node.get_friendly_name() == name)


def swap(role: str, make: Callable[[list[ov.Output]], ov.Node]) -> Edit:
    """An edit that puts what ``make`` builds from the inputs of ``blocks.0/<role>`` in its place and name."""

    def edit(model: ov.Model) -> None:
        old = find_node(model, f"blocks.0/{role}")
        new = make(old.input_values())
        old.set_friendly_name("replaced")
        _take_over(model, old, _named(new, f"blocks.0/{role}"))

    return edit


def insert_after(role: str, make: Callable[[ov.Output], ov.Node]) -> Edit:
    """An edit that puts a node called ``extra`` between ``blocks.0/<role>`` and its readers."""

    def edit(model: ov.Model) -> None:
        old = find_node(model, f"blocks.0/{role}")
        readers = old.output(0).get_target_inputs()
        _take_over(model, old, _named(make(old.output(0)), "extra"), readers)

    return edit


def read_twice(role: str) -> Edit:
    """An edit that makes ``blocks.0/<role>`` an output of the model too."""

    def edit(model: ov.Model) -> None:
        model.add_results([_named(ops.result(find_node(model, f"blocks.0/{role}")), "second reader")])

    return edit


def _take_over(model: ov.Model, old: ov.Node, new: ov.Node, readers: set[ov.Input] | None = None) -> None:
    for reader in old.output(0).get_target_inputs() if readers is None else readers:
        reader.replace_source_output(new.output(0))
    model.validate_nodes_and_infer_types()
