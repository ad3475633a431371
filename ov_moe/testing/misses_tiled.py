"""Near misses of Qwen3-MoE's form: by the reason for which each is left alone, the edit that makes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from ov_moe.testing.graphs import Edit, insert_after, moe_block_model, read_twice, swap

E, K, H, I = 8, 2, 128, 64  # noqa: E741


def qwen3_model(**options: object) -> ov.Model:
    """A block of 8 experts, u4 unless told otherwise."""
    sizes = {"experts": E, "top_k": K, "hidden": H, "intermediate": I} | options
    return moe_block_model(rng=np.random.default_rng(7), **sizes)[0]  # type: ignore[arg-type]


def other_slice(**changes: list[int]) -> Edit:
    """The slice of the top-k weights with some inputs changed."""
    names = ("data", "start", "stop", "step", "axes")
    others = {name: np.array(value, np.int32) for name, value in changes.items()}
    return swap("slice", lambda i: ops.slice(**(dict(zip(names, i, strict=True)) | others)))


def other_matmul(role: str, shape: Sequence[int], transpose_b: bool = True) -> Edit:
    """A projection with f32 weights of another shape."""
    return swap(role, lambda i: ops.matmul(i[0], ones(shape, np.float32), False, transpose_b))


def ones(shape: Sequence[int], kind: type) -> ov.Node:
    return ops.constant(np.ones(shape, kind), name="others")


NEAR_MISSES: dict[str, Edit] = {
    "Tile 'blocks.0/tile' has repeats [16, 1] instead of [8, 1]": swap(
        "tile", lambda i: ops.tile(i[0], np.array([2 * E, 1]))
    ),
    "ReduceSum 'blocks.0/sum' has axes [1] instead of [0]": swap("sum", lambda i: ops.reduce_sum(i[0], np.array([1]))),
    "ReduceSum 'blocks.0/sum' has keep_dims = true": swap(
        "sum", lambda i: ops.reduce_sum(i[0], np.array([0]), keep_dims=True)
    ),
    "TopK 'blocks.0/topk' leads to experts whose outputs no ReduceSum adds up": swap(
        "sum", lambda i: ops.reduce_mean(i[0], np.array([0]))
    ),
    "MatMul 'blocks.0/up' has transpose_b = false": other_matmul("up", [E, H, I], transpose_b=False),
    "MatMul 'blocks.0/gate' is also read by Result 'second reader', outside the block": read_twice("gate"),
    "Transpose 'blocks.0/transpose' is also read by Result 'second reader', outside the block": read_twice("transpose"),
    "ScatterElementsUpdate 'blocks.0/scatter' has an axis [0] instead of [1]": swap(
        "scatter", lambda i: ops.scatter_elements_update(*i[:3], np.int64(0))
    ),
    "ScatterElementsUpdate 'blocks.0/scatter' has the reduction sum instead of none": swap(
        "scatter", lambda i: ops.scatter_elements_update(*i, reduction="sum")
    ),
    "Swish 'blocks.0/swish' has a beta that is not one constant": swap(
        "swish", lambda i: ops.swish(i[0], ops.reduce_max(i[0], np.array([0, 1, 2])))
    ),
    "Elu 'blocks.0/swish' stands where the activation of the gate should be one of Gelu, Relu, Swish": swap(
        "swish", lambda i: ops.elu(i[0], 1.0)
    ),
    "Broadcast 'blocks.0/zeros' is not zero where no expert is chosen": swap(
        "zeros", lambda i: ops.broadcast(np.float32(0.5), i[1])
    ),
    "Broadcast 'blocks.0/zeros' has a number of rows that cannot be traced to the expert ids": swap(
        "zeros", lambda i: ops.broadcast(np.float32(0), ops.add(i[1], np.array([1, 0])))
    ),
    "Constant 'others' holds [E, N, K] = [1, 64, 128] where the block needs [8, 64, 128]": other_matmul(
        "gate", [1, I, H]
    ),
    "Constant 'others' holds [E, N, K] = [8, 1, 128] where the block needs [8, 64, 128]": other_matmul("up", [E, 1, H]),
    "Slice 'blocks.0/slice' has a start [1, 0] instead of [0, 0]": other_slice(start=[1, 0]),
    "Slice 'blocks.0/slice' has a step [2, 1] instead of [1, 1]": other_slice(step=[2, 1]),
    "Slice 'blocks.0/slice' does not stop at the shape of the expert ids": other_slice(stop=[1, K]),
    "Slice 'blocks.0/slice' has a list of axes [1, 0] instead of [0, 1]": other_slice(axes=[1, 0]),
    "Multiply 'extra' stands where the down projection should be a MatMul": insert_after(
        "down", lambda o: ops.multiply(o, np.float32(2))
    ),
    "Multiply 'extra' stands where the swap of tokens and experts should be a Transpose": insert_after(
        "transpose", lambda o: ops.multiply(o, np.float32(2))
    ),
    "Add 'extra' stands where the gate projection should be a MatMul": insert_after(
        "gate", lambda o: ops.add(o, np.ones((E, 1, I), np.float32))
    ),
    "Multiply 'blocks.0/gated' multiplies a gate and an up projection of different inputs": swap(
        "up", lambda i: ops.matmul(ops.relu(i[0]), i[1], False, True)
    ),
    "Transpose 'blocks.0/transpose' has an order [0, 1] instead of [1, 0]": swap(
        "transpose", lambda i: ops.transpose(i[0], np.array([0, 1]))
    ),
    "Constant 'others' is a u8 zero point of u4 weights": swap(
        "up_w/zero_point/subtract", lambda i: ops.subtract(i[0], ops.convert(ones([E, I, 4, 1], np.uint8), "f16"))
    ),
    "Constant 'others' has shape [8, 1, 1, 1] beside values of shape [8, 64, 4, 32]": swap(
        "up_w/fq_weights_1", lambda i: ops.multiply(i[0], ones([E, 1, 1, 1], np.float16))
    ),
    "Relu 'computed' stands where the scale should be an f16 or f32 Constant": swap(
        "up_w/fq_weights_1", lambda i: ops.multiply(i[0], ops.relu(i[1], name="computed"))
    ),
    "Transpose 'turned' stands where the scaling of the weights should be a Multiply": swap(
        "up",
        lambda i: ops.matmul(
            i[0], ops.transpose(ones([E, H, I], np.float32), np.array([0, 2, 1]), name="turned"), False, True
        ),
    ),
    "VariadicSplit 'halved' stands where the scaling of the weights should be a Multiply": swap(
        "up",
        lambda i: ops.matmul(
            i[0],
            ops.variadic_split(ones([E, 2 * I, H], np.float32), np.int64(1), np.array([I, I]), name="halved").output(0),
            False,
            True,
        ),
    ),
    "Constant 'others' holds u8 weights without a scale": swap(
        "up", lambda i: ops.matmul(i[0], ops.convert(ones([E, I, H], np.uint8), "f32"), False, True)
    ),
}
