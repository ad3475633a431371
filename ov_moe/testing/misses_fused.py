"""Near misses of GPT-OSS's and AFMoE's forms: by the reason for which each is left alone, the edit that makes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from ov_moe.spec import Activation
from ov_moe.testing.graphs import Edit, Form, insert_after, moe_block_model, read_twice, swap
from ov_moe.testing.nodes import vector

E, K, H, I = 6, 2, 64, 96  # noqa: E741
FAR = 2**63 - 1
GPT_OSS = Form(Activation(beta=1.702, limit=7.0, up_offset=1.0), "interleaved", ends="slots")
HALVES = Form(layout="halves", parts="split", ends="batch")
AFMOE = Form(ends="batch", shared_expert=True)


def form_model(form: Form) -> ov.Model:
    """A block of 6 experts of this form in f32."""
    return moe_block_model(
        rng=np.random.default_rng(7),
        form=form,
        biases="none" if form.layout == "separate" else "f32",
        precision="f32",
        experts=E,
        top_k=K,
        hidden=H,
        intermediate=I,
    )[0]


def constant(values: Any, kind: Any = np.float32) -> ov.Node:
    return ops.constant(np.array(values, kind), name="others")


def ones(*shape: int, kind: Any = np.float32) -> ov.Node:
    return constant(np.ones(shape), kind)


def part(role: str, start: int, stop: int, step: int, axis: int = 2) -> Edit:
    """Another Slice in the place of ``role``."""
    return swap(role, lambda i: ops.slice(i[0], vector(start), vector(stop), vector(step), vector(axis)))


def batch(zeros_shape: ov.Output) -> ov.Output:
    """B, from Concat(B * S, E)."""
    return zeros_shape.get_node().input_value(0).get_node().input_value(0)


def both(*edits: Edit) -> Edit:
    def edit(model: ov.Model) -> None:
        for one in edits:
            one(model)

    return edit


def other_factor_axes(first: int, second: int) -> Edit:
    """Reshapes the routing to [E, first, second, 1]."""
    return swap("unsqueeze", lambda i: ops.reshape(i[0], [E, first, second, 1], special_zero=True))


NOT_A_LAYOUT = "of 192 features, neither interleaved nor halves"
FUSED: dict[str, Edit] = {
    "Constant 'others' holds a bias of shape [1, 1, 192] where the experts need [6, 1, 192]": swap(
        "gate_up_add", lambda i: ops.add(i[0], ones(1, 1, 2 * I))
    ),
    "Constant 'others' holds a bias of shape [6, 1, 1] where the experts need [6, 1, 64]": swap(
        "down_add", lambda i: ops.add(i[0], ones(E, 1, 1))
    ),
    "Constant 'others' holds a bias of type f64, not f16 or f32": swap(
        "down_add", lambda i: ops.add(i[0], ops.convert(ones(E, 1, H, kind=np.float64), "f32"))
    ),
    "Relu 'computed' stands where the bias should be a Constant": swap(
        "gate_up_add", lambda i: ops.add(i[0], ops.relu(i[1], name="computed"))
    ),
    f"Slice 'blocks.0/up_part' takes gate as 0:96:1 and up as 1:192:2 {NOT_A_LAYOUT}": part("gate_part", 0, I, 1),
    f"Slice 'blocks.0/up_part' takes gate as 0:192:2 and up as 0:192:2 {NOT_A_LAYOUT}": part("up_part", 0, FAR, 2),
    f"Slice 'blocks.0/up_part' takes gate as 1:192:2 and up as 0:192:2 {NOT_A_LAYOUT}": both(
        part("gate_part", 1, FAR, 2), part("up_part", 0, FAR, 2)
    ),
    f"Slice 'blocks.0/up_part' takes gate as 96:192:1 and up as 0:96:1 {NOT_A_LAYOUT}": both(
        part("gate_part", I, FAR, 1), part("up_part", 0, I, 1)
    ),
    f"Slice 'blocks.0/up_part' takes gate as 0:192:2 and up as 191:-1:-2 {NOT_A_LAYOUT}": part(
        "up_part", FAR, -FAR, -2
    ),
    "Slice 'blocks.0/up_part' has a start that is not one constant": swap(
        "up_part", lambda i: ops.slice(i[0], ops.gather(ops.shape_of(i[0]), vector(1), np.int64(0)), *i[2:])
    ),
    "Slice 'blocks.0/up_part' takes up from another output than gate": swap(
        "up_part", lambda i: ops.slice(i[0].get_node().input_value(0), *i[1:])
    ),
    "Add 'blocks.0/up_clamp' stands where up should be a Slice or a Split of both projections": both(
        swap("up_clamp", lambda i: ops.add(i[0], np.full((1, 1, 1), 1, np.float32))),
        swap("up_offset", lambda i: ops.clamp(i[0], -7.0, 7.0)),
    ),
    "Add 'blocks.0/up_offset' adds to up what is not one constant number": swap(
        "up_offset", lambda i: ops.add(i[0], ones(1, 1, I))
    ),
    "Clamp 'blocks.0/up_clamp' clamps up to [-7.0, 6.0], not from both sides alike": swap(
        "up_clamp", lambda i: ops.clamp(i[0], -7.0, 6.0)
    ),
    "Clamp 'blocks.0/gate_clamp' clamps gate to [-7.0, 7.0], not from above only": swap(
        "gate_clamp", lambda i: ops.clamp(i[0], -7.0, 7.0)
    ),
    "Multiply 'blocks.0/gated' multiplies gate clamped at 7.0 and up clamped at 6.0": swap(
        "up_clamp", lambda i: ops.clamp(i[0], -6.0, 6.0)
    ),
    "Minimum 'blocks.0/gate_clamp' clamps gate at what is not one constant number": swap(
        "gate_clamp", lambda i: ops.minimum(i[0], ones(1, 1, I))
    ),
    "Swish 'blocks.0/swish' has a beta that is not one constant": swap(
        "swish", lambda i: ops.swish(i[0], ops.reduce_max(i[0], vector(0, 1, 2)))
    ),
    "Add 'blocks.0/gate_up_add' is also read by Result 'second reader', outside the block": read_twice("gate_up_add"),
    "MatMul 'blocks.0/gate_up' is also read by Result 'second reader', outside the block": read_twice("gate_up"),
    "Clamp 'blocks.0/up_clamp' is also read by Result 'second reader', outside the block": read_twice("up_clamp"),
    "Reshape 'blocks.0/view_1' is also read by Result 'second reader', outside the block": read_twice("view_1"),
    "Multiply 'extra' stands where the gate and up projection should be a MatMul": insert_after(
        "gate_up", lambda o: ops.multiply(o, np.float32(2))
    ),
    "MatMul 'blocks.0/gate_up' has transpose_b = false": swap(
        "gate_up", lambda i: ops.matmul(i[0], ones(E, H, 2 * I), False, False)
    ),
    "Constant 'others' holds [E, N, K] = [1, 64, 96] where the block needs [6, 64, 96]": swap(
        "down", lambda i: ops.matmul(i[0], ones(1, H, I), False, True)
    ),
    "Tile 'blocks.0/tile' has repeats [12, 1] instead of [6, 1]": swap(
        "tile", lambda i: ops.tile(i[0], vector(2 * E, 1))
    ),
    "Multiply 'blocks.0/weighted' multiplies outputs and factors whose token axes cannot be shown to agree": (
        other_factor_axes(1, -1)
    ),
    "Multiply 'blocks.0/weighted' multiplies outputs of rank 4 by factors of rank 3": swap(
        "weighted", lambda i: ops.multiply(i[0], ops.squeeze(i[1], vector(3)))
    ),
}
HALVED: dict[str, Edit] = {
    "Split 'blocks.0/parts' is also read by Result 'second reader', outside the block": read_twice("parts"),
    "Multiply 'blocks.0/gated' multiplies gate clamped at None and up clamped at 7.0": swap(
        "gated", lambda i: ops.multiply(i[0], ops.clamp(i[1], -7.0, 7.0))
    ),
    f"Split 'blocks.0/parts' takes gate as 96:192:1 and up as 0:96:1 {NOT_A_LAYOUT}": both(
        swap("swish", lambda i: ops.swish(i[0].get_node().output(1))),
        swap("gated", lambda i: ops.multiply(i[0], i[1].get_node().output(0))),
    ),
    "Relu 'extra' stands where the product of gate and up should be a Multiply": insert_after("gated", ops.relu),
}
BATCHED: dict[str, Edit] = {
    "Broadcast 'blocks.0/zeros' has a number of rows that cannot be traced to the expert ids": swap(
        "zeros", lambda i: ops.broadcast(i[0], ops.concat([ops.multiply(batch(i[1]), batch(i[1])), vector(E)], 0))
    ),
    "Reshape 'blocks.0/view_1' splits the tokens into axes that cannot be traced": swap(
        "view_1", lambda i: ops.reshape(i[0], ops.add(i[1], vector(0, 0, 0, 0)), special_zero=False)
    ),
    "Multiply 'blocks.0/weighted' multiplies outputs and factors whose token axes cannot be shown to agree": swap(
        "view_1", lambda i: ops.reshape(i[0], [E, 2, -1, H], special_zero=False)
    ),
    "ReduceSum 'blocks.0/sum' has axes [1] instead of [0]": swap("sum", lambda i: ops.reduce_sum(i[0], vector(1))),
}
