"""The toy family in a copy of the tree.

A model of it is found, rewritten and run, in NumPy and on the GPU plugin; two that are almost it are left alone.
"""

from __future__ import annotations

import os

import numpy as np
import openvino as ov
from exported import EXACT
from openvino import opset15 as ops

import ov_moe
from ov_moe import reference
from ov_moe.ops.evaluate import EVALUATE_VARIABLE
from ov_moe.testing.edits import read_twice, swap
from ov_moe.testing.nodes import chained, integer, named, parameter, vector
from ov_moe.testing.weights import RawWeights, decompressed, random_weights
from ov_moe.transformations.families import find_blocks

E, K, H, I, T = 5, 2, 96, 64, 11  # noqa: E741


def plugin() -> None:
    """Both plugins against the float64 oracle and against the plain model."""
    os.environ[EVALUATE_VARIABLE] = "numpy"
    rng = np.random.default_rng(5)
    raw = [
        random_weights(rng, "u4", experts=E, n=n, k=k, group=32, symmetric=False) for n, k in ((I, H), (I, H), (H, I))
    ]
    blocks, skipped = find_blocks(graph(raw))
    assert skipped == []
    assert [(b.name, b.experts, b.top_k, b.hidden, b.intermediate) for b in blocks] == [("blocks.0/sum", E, K, H, I)]
    for reason, edit in MISSES.items():
        changed = graph(raw)
        edit(changed)
        blocks, skipped = find_blocks(changed)
        assert blocks == []
        assert any(reason in region.reason for region in skipped), skipped

    inputs = {
        "x": rng.standard_normal((T, H)).astype(np.float32),
        "ids": np.array([rng.permutation(E)[:K] for _ in range(T)]),
        "weights": rng.random((T, K)).astype(np.float32),
    }
    core = ov.Core()
    oracle = reference.moe(inputs["x"], inputs["ids"], inputs["weights"], *(weights.dense() for weights in raw))
    found = {"the plain model": core.compile_model(graph(raw), "CPU", EXACT)(inputs)["y"]}
    for device in ("CPU", "GPU"):
        model = graph(raw)
        assert [block.name for block in ov_moe.optimize(model).rewritten] == ["blocks.0/sum"]
        found[device] = ov_moe.compile_model(core, model, device, EXACT)(inputs)["y"]
    for name, y in found.items():
        error = np.abs(y - oracle).max() / np.abs(oracle).max()
        print(f"{name}: off by {error:.1e} of the largest value")
        assert error < 5e-6


def graph(raw: list[RawWeights]) -> ov.Model:
    """A model of one such block; x, ids and weights are its inputs."""
    inputs = [
        parameter("x", [-1, H], ov.Type.f32),
        parameter("ids", [-1, K], ov.Type.i64),
        parameter("weights", [-1, K], ov.Type.f32),
    ]

    def block(index: int, x: ov.Node) -> ov.Node:
        def add(node: ov.Node, role: str) -> ov.Node:
            return named(node, f"blocks.{index}/{role}")

        def projected(rows: ov.Node, port: int, role: str) -> ov.Node:
            return add(ops.matmul(rows, decompressed(raw[port], f"blocks.{index}/{role}_w"), False, True), role)

        rows = add(ops.broadcast(ops.unsqueeze(x, integer(0)), vector(E, 1, 1), broadcast_spec="BIDIRECTIONAL"), "rows")
        gate, up = projected(rows, 0, "gate"), projected(rows, 1, "up")
        down = projected(add(ops.multiply(ops.swish(gate), up), "gated"), 2, "down")
        # The finders look for a TopK behind the factors: this one sorts what is given.
        topk = add(ops.topk(inputs[1], integer(K), -1, "max", "none", "i64"), "topk")
        order = topk.output(1)
        ids = add(ops.gather_elements(inputs[1], order, 1), "ids")
        weights = add(ops.gather_elements(inputs[2], order, 1), "weights")
        one_hot = add(ops.one_hot(ids, integer(E), np.float32(1), np.float32(0), -1), "one_hot")
        factors = add(ops.multiply(one_hot, ops.unsqueeze(weights, integer(2))), "factors")
        summed = add(ops.reduce_sum(factors, vector(1)), "summed")
        dense = ops.unsqueeze(add(ops.transpose(summed, vector(1, 0)), "transpose"), integer(2))
        return add(ops.reduce_sum(add(ops.multiply(down, dense), "weighted"), vector(0)), "sum")

    return chained(inputs, 1, block)


MISSES = {
    "OneHot 'blocks.0/one_hot' has another value than 1 at input 2": swap(
        "one_hot", lambda i: ops.one_hot(*i[:2], np.float32(2), np.float32(0), -1)
    ),
    "MatMul 'blocks.0/gate' is also read by Result 'second reader', outside the block": read_twice("gate"),
}
