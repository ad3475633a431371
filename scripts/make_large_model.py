"""Writes a large IR of Mixture-of-Experts blocks alone, as Qwen3-MoE exports have them, with cheap random weights.

For measuring memory and time of a rewrite; the model computes nothing meaningful. It needs neither PyTorch nor
memory for all weights: every constant is a window into one pool of random bytes, which is as large as the largest
constant. ``--help`` lists the options; the defaults write 2.5 GB.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import openvino as ov
import typer
from numpy.typing import NDArray
from openvino import opset13 as ops

from ov_moe.errors import InvalidInputError, OvMoeError
from ov_moe.folder.write import whole_folder

MODEL_FILE = "openvino_model.xml"
# Apart so that no two constants are equal: saving would store them once.
_STEP = 64


@dataclass(frozen=True)
class Sizes:
    """The blocks: counts of elements, experts or layers.

    Attributes:
        layers: Blocks, each x + block(x).
        experts: Experts in each layer (E).
        top_k: Experts that serve one token (k).
        hidden: Features of a token (H).
        intermediate: Features inside one expert (I).
        group: Weights that share a scale; divides ``hidden`` and ``intermediate`` and is even.
    """

    layers: int
    experts: int
    top_k: int
    hidden: int
    intermediate: int
    group: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise InvalidInputError(f"{name} must be at least 1, not {value}.")
        if self.top_k > self.experts:
            raise InvalidInputError(f"top_k is {self.top_k}, but there are only {self.experts} experts.")
        if self.group % 2 or self.hidden % self.group or self.intermediate % self.group:
            raise InvalidInputError(f"group must be even and divide hidden and intermediate, not {self.group}.")

    @property
    def int4_bytes(self) -> int:
        """Bytes of all 4-bit weights, without scales and zero points."""
        return 3 * self.layers * self.experts * self.hidden * self.intermediate // 2


class Pool:
    """Random bytes, of which each constant takes another window."""

    def __init__(self, size: int, windows: int, seed: int) -> None:
        """``size``: of the largest window, in bytes."""
        length = size + windows * _STEP
        self._bytes = np.random.default_rng(seed).integers(0, 2**64, -(-length // 8), np.uint64).view(np.uint8)
        self._taken = 0

    def u4(self, shape: list[int]) -> ov.op.Constant:
        """A u4 constant over the pool's memory: the pool must outlive it."""
        window = self._window(int(np.prod(shape)) // 2)
        return ov.op.Constant(ov.Tensor(window, ov.Shape(shape), ov.Type.u4), shared_memory=True)

    def scales(self, shape: list[int], largest: float) -> ov.op.Constant:
        """f16 from ``largest`` / 256 to ``largest``, a copy."""
        steps = self._window(int(np.prod(shape))).astype(np.float32) + 1
        return ov.op.Constant((steps * (largest / 256)).astype(np.float16).reshape(shape))

    def _window(self, size: int) -> NDArray[np.uint8]:
        begin = self._taken * _STEP
        self._taken += 1
        assert begin + size <= self._bytes.size, "the pool was made for fewer windows"
        return self._bytes[begin : begin + size]


def build(sizes: Sizes, seed: int = 0) -> tuple[ov.Model, Pool]:
    """The model, x f32 [B, S, H] -> y f32 [B, S, H], and the pool that its constants lie in: keep it alive."""
    largest = sizes.experts * sizes.hidden * sizes.intermediate // 2
    pool = Pool(largest, 10 * sizes.layers, seed)
    x = _named(ops.parameter(ov.PartialShape([-1, -1, sizes.hidden]), ov.Type.f32), "x")
    x.output(0).set_names({"x"})
    value = x
    for layer in range(sizes.layers):
        value = ops.add(value, _block(f"layers.{layer}/mlp", value, sizes, pool))
    result = ops.result(value)
    result.input_value(0).set_names({"y"})
    return ov.Model([result], [x], "moe_blocks"), pool


def _block(name: str, value: ov.Node, sizes: Sizes, pool: Pool) -> ov.Node:
    """Router, experts on all tokens, and the sum that the dense routing weights."""
    experts, hidden = sizes.experts, sizes.hidden
    x = ops.reshape(value, [-1, hidden], special_zero=False)
    router = ops.convert(pool.scales([experts, hidden], 1.0), "f32")
    topk = ops.topk(ops.softmax(ops.matmul(x, router, False, True), 1), np.int64(sizes.top_k), -1, "max", "value")
    ids = topk.output(1)
    factors = ops.divide(topk.output(0), ops.reduce_sum(topk.output(0), [-1], keep_dims=True))

    tokens = ops.reshape(ops.tile(x, np.array([experts, 1])), [experts, -1, hidden], special_zero=False)
    gate = _projection(tokens, f"{name}/gate", sizes.intermediate, hidden, sizes, pool)
    up = _projection(tokens, f"{name}/up", sizes.intermediate, hidden, sizes, pool)
    down = _projection(ops.multiply(ops.swish(gate), up), f"{name}/down", hidden, sizes.intermediate, sizes, pool)
    results = ops.reshape(down, [experts, 0, hidden], special_zero=True)

    rows = ops.gather(ops.shape_of(ids), np.array([0]), np.int64(0))
    zeros = ops.broadcast(np.float32(0), ops.concat([rows, np.array([experts])], 0))
    bounds = np.zeros(2, np.int32), ops.shape_of(ids, "i32"), np.ones(2, np.int32)
    dense = ops.scatter_elements_update(zeros, ids, ops.slice(factors, *bounds, np.array([0, 1])), np.int64(1))
    by_expert = ops.reshape(ops.transpose(dense, np.array([1, 0])), [experts, 0], special_zero=True)
    weighted = ops.multiply(results, ops.unsqueeze(by_expert, np.int64(2)))
    total = _named(ops.reduce_sum(weighted, np.array([0])), f"{name}/sum")
    return ops.reshape(total, ops.shape_of(value), special_zero=False)


def _projection(tokens: ov.Node, name: str, n: int, k: int, sizes: Sizes, pool: Pool) -> ov.Node:
    """A MatMul with asymmetric 4-bit weights in groups, decompressed as NNCF writes it."""
    groups = [sizes.experts, n, k // sizes.group]
    stored = _named(pool.u4([*groups, sizes.group]), f"{name}/weight")
    zero_point = _named(pool.u4([*groups, 1]), f"{name}/weight/zero_point")
    centred = ops.subtract(ops.convert(stored, "f16"), ops.convert(zero_point, "f16"))
    scale = _named(pool.scales([*groups, 1], 0.2 / k**0.5), f"{name}/weight/scale")
    grouped = ops.reshape(ops.multiply(centred, scale), [sizes.experts, n, k], special_zero=False)
    return _named(ops.matmul(tokens, ops.convert(grouped, "f32"), False, True), name)


def _named(node: ov.Node, name: str) -> ov.Node:
    node.set_friendly_name(name)
    return node


def main(
    output: Annotated[Path, typer.Argument(help="Folder to write; it appears whole or not at all.")],
    *,
    layers: Annotated[int, typer.Option(help="Blocks, one after the other.")] = 8,
    experts: Annotated[int, typer.Option(help="Experts in each layer.")] = 128,
    top_k: Annotated[int, typer.Option(help="Experts that serve one token.")] = 8,
    hidden: Annotated[int, typer.Option(help="Features of a token.")] = 2048,
    intermediate: Annotated[int, typer.Option(help="Features inside one expert.")] = 768,
    group: Annotated[int, typer.Option(help="Weights that share a scale.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0,
) -> None:
    """Writes an IR of Mixture-of-Experts blocks with random 4-bit weights."""
    try:
        sizes = Sizes(layers, experts, top_k, hidden, intermediate, group)
        if output.exists():
            raise InvalidInputError(f"{output} exists already: name another folder.")
        with whole_folder(output, None) as fresh:
            model, pool = build(sizes, seed)
            ov.save_model(model, fresh.folder / MODEL_FILE, compress_to_fp16=False)
            del model, pool  # in this order
    except OvMoeError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    size = (output / MODEL_FILE).with_suffix(".bin").stat().st_size
    typer.echo(f"{output}: {sizes.int4_bytes / 1e9:.2f} GB of 4-bit weights, {size / 1e9:.2f} GB in all")


if __name__ == "__main__":
    typer.run(main)
