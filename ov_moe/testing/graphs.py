"""Models with Mixture-of-Experts blocks, node by node as optimum-intel exports them; without torch.

The forms are those of Qwen3-MoE (the default), AFMoE and GPT-OSS; graphs_experts.Form says which.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset15 as ops

from ov_moe import reference
from ov_moe.spec import Precision
from ov_moe.testing.edits import Edit, find_node, insert_after, read_twice, swap
from ov_moe.testing.experts import BlockWeights, Form, experts
from ov_moe.testing.weights import RawWeights, decompressed, integer_constant, named, pack, random_weights

Router = Literal["softmax", "softmax-nonorm", "sigmoid"]
Precisions = Precision | tuple[Precision, ...]

__all__ = [
    "BlockWeights",
    "Edit",
    "Form",
    "RawWeights",
    "Router",
    "decompressed",
    "find_node",
    "insert_after",
    "integer_constant",
    "moe_block_model",
    "pack",
    "random_weights",
    "read_twice",
    "route",
    "swap",
]


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
    form: Form | None = None,
    biases: Literal["none", "f16", "f32"] = "none",
) -> tuple[ov.Model, list[BlockWeights]]:
    """Builds a model of one or more blocks; outputs are O(1) for standard normal x.

    Args:
        experts: E.
        top_k: k.
        hidden: H.
        intermediate: I.
        rng: Source of all weights.
        precision: Of all projections, or of (gate, up, down), or of (gate and up, down) where one GEMM gives both.
        group_size: Of 4-bit weights; 0 gives one scale a channel.
        group_size_8bit: The same of 8-bit weights, which exports scale by channel.
        symmetric: Leaves out the zero points of u4 and u8; i4 and i8 never have one.
        router: What scores become before and after the TopK.
        blocks: More than one makes a residual chain, x + block(x); all read the same "ids" and "weights".
        ids_input: The ids are an i64 input "ids" [T, k] in place of the TopK; their weights are still scores.
        topk_as_inputs: No router: inputs are x [T, H], "ids" i32 [T, k] and "weights" f32 [T, k].
        form: Of the experts; Qwen3-MoE's unless given. ``batch`` ends need x [B, S, H].
        biases: Type of the biases, if any; only where one GEMM gives gate and up.

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
    form = form or Form()
    fused = form.layout != "separate"
    precisions = (precision,) * (2 if fused else 3) if isinstance(precision, str) else precision
    sizes = [(2 * intermediate, hidden)] if fused else [(intermediate, hidden)] * 2
    sizes.append((hidden, intermediate))

    for index in range(blocks):
        raw = tuple(
            random_weights(
                rng,
                kind,
                experts=experts,
                n=n,
                k=k,
                group=group_size if "4" in kind else group_size_8bit,
                symmetric=symmetric,
            )
            for kind, (n, k) in zip(precisions, sizes, strict=True)
        )
        scores = None if topk_as_inputs else rng.standard_normal((experts, hidden), np.float32) / hidden**0.5
        dense = raw[0].dense()
        gate, up = reference.split_gate_up(dense, form.layout) if fused else (dense, raw[1].dense())
        gate_bias, down_bias = (_random_bias(rng, biases, experts, n) for n in (2 * intermediate, hidden))
        shared = rng.standard_normal((hidden, hidden), np.float32) / hidden**0.5 if form.shared_expert else None
        weights.append(BlockWeights(scores, gate, up, raw[-1].dense(), raw, form, gate_bias, down_bias, shared))
        value = _block(f"blocks.{index}", value, inputs, weights[-1], top_k, router, residual=blocks > 1)
    result = ops.result(value)
    result.input_value(0).set_names({"y"})
    return ov.Model([result], list(inputs.values()), "moe"), weights


def route(
    x: NDArray[np.floating], weights: BlockWeights, top_k: int, router: Router
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(ids, factors) [T, k] of x [T, H] in float64."""
    assert weights.router is not None
    logits = x @ weights.router.astype(np.float64).T
    scores = 1 / (1 + np.exp(-logits)) if router == "sigmoid" else np.exp(logits)
    if router != "sigmoid":
        scores /= scores.sum(1, keepdims=True)
    ids = np.argsort(-scores, axis=1)[:, :top_k]
    factors = np.take_along_axis(scores, ids, 1)
    return ids, factors if router == "softmax-nonorm" else factors / factors.sum(1, keepdims=True)


def _block(
    name: str,
    value: ov.Node,
    inputs: dict[str, ov.Node],
    weights: BlockWeights,
    top_k: int,
    router: Router,
    residual: bool,
) -> ov.Node:
    """The router, the experts, and what puts their result back in the shape of ``value``."""
    flat = "weights" in inputs
    x = value if flat else ops.reshape(value, [-1, weights.gate.shape[2]], special_zero=False)
    if weights.router is None:
        ids, factors = inputs["ids"], inputs["weights"]
    else:
        ids, factors = _route(name, x, weights.router, top_k=top_k, router=router, ids=inputs.get("ids"))
    result = experts(name, value, x, ids, factors, weights)
    if not flat or weights.form.ends == "slots":
        result = ops.reshape(result, ops.shape_of(value), special_zero=False)
    return ops.add(value, result) if residual else result


def _random_bias(
    rng: np.random.Generator, kind: Literal["none", "f16", "f32"], count: int, n: int
) -> NDArray[np.floating] | None:
    if kind == "none":
        return None
    return (rng.standard_normal((count, n)) / 2).astype(np.float16 if kind == "f16" else np.float32)


def _parameter(name: str, shape: list[int], kind: ov.Type) -> ov.Node:
    node = named(ops.parameter(ov.PartialShape(shape), kind), name)
    node.output(0).set_names({name})
    return node


def _route(
    name: str, x: ov.Node, weights: NDArray[np.float32], *, top_k: int, router: Router, ids: ov.Node | None
) -> tuple[ov.Node, ov.Node]:
    """(ids i32 [T, k], weights f32 [T, k])."""
    logits = ops.matmul(x, ov.op.Constant(weights), False, True)
    scores = ops.sigmoid(logits) if router == "sigmoid" else ops.softmax(logits, axis=-1)
    if ids is None:
        topk = named(ops.topk(scores, np.int64(top_k), -1, "max", "value", "i64"), f"{name}/topk")
        chosen, ids = topk.output(0), topk.output(1)
    else:
        chosen = ops.gather_elements(scores, ids, 1).output(0)
    ids = named(ops.convert(ids, "i32"), f"{name}/ids")
    if router == "softmax-nonorm":
        return ids, chosen
    return ids, named(ops.divide(chosen, ops.reduce_sum(chosen, [-1], keep_dims=True)), f"{name}/norm")
