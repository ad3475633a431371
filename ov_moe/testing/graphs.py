"""Models with Mixture-of-Experts blocks, node by node as optimum-intel exports them; without torch.

The forms are those of Qwen3-MoE (the default), AFMoE and GPT-OSS; ``Form`` says which.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset15 as ops

from ov_moe.testing.block_weights import Biases, BlockWeights, Form, Precisions, Recipe
from ov_moe.testing.edits import Edit, find_node, insert_after, read_twice, swap
from ov_moe.testing.experts import experts
from ov_moe.testing.nodes import chained, named, parameter
from ov_moe.testing.weights import RawWeights, decompressed, integer_constant, pack, random_weights

Router = Literal["softmax", "softmax-nonorm", "sigmoid"]

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
    biases: Biases = "none",
) -> tuple[ov.Model, list[BlockWeights]]:
    """Builds a model of one or more blocks; outputs are O(1) for standard normal x.

    Args:
        experts, top_k, hidden, intermediate: E, k, H and I.
        rng: Source of all weights.
        precision, group_size, group_size_8bit, symmetric, biases: Of the weights; see ``Recipe``.
        router: What scores become before and after the TopK.
        blocks: More than one makes a residual chain, x + block(x); all read the same "ids" and "weights".
        ids_input: The ids are an i64 input "ids" [T, k] in place of the TopK; their weights are still scores.
        topk_as_inputs: No router: inputs are x [T, H], "ids" i32 [T, k] and "weights" f32 [T, k].
        form: Of the experts; Qwen3-MoE's unless given. ``batch`` ends need x [B, S, H].

    Returns:
        A model with f32 input "x" [B, S, H] and output "y" of the same shape, both [T, H] with
        ``topk_as_inputs``; and the weights of each block. Nodes are called ``blocks.<i>/<role>``.
    """
    recipe = Recipe(
        experts, hidden, intermediate, precision, group_size, group_size_8bit, symmetric, form or Form(), biases
    )
    weights = [recipe.draw(rng, routed=not topk_as_inputs) for _ in range(blocks)]
    inputs = _inputs(hidden, top_k, ids_input, topk_as_inputs)

    def block(index: int, value: ov.Node) -> ov.Node:
        return _block(f"blocks.{index}", value, inputs, weights[index], top_k, router)

    return chained(list(inputs.values()), blocks, block), weights


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
    return result


def _inputs(hidden: int, top_k: int, ids_input: bool, topk_as_inputs: bool) -> dict[str, ov.Node]:
    shape = [-1, hidden] if topk_as_inputs else [-1, -1, hidden]
    inputs = {"x": parameter("x", shape, ov.Type.f32)}
    if topk_as_inputs or ids_input:
        inputs["ids"] = parameter("ids", [-1, top_k], ov.Type.i32 if topk_as_inputs else ov.Type.i64)
    if topk_as_inputs:
        inputs["weights"] = parameter("weights", [-1, top_k], ov.Type.f32)
    return inputs


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
