"""Small nodes of the test models, and the model around their blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as ops


def named(node: ov.Node, name: str) -> ov.Node:
    """The node, called ``name``."""
    node.set_friendly_name(name)
    return node


def integer(value: int) -> ov.Node:
    """An i64 scalar."""
    return ops.constant(np.int64(value))


def vector(*values: int, kind: Any = np.int64) -> ov.Node:
    """An integer constant of rank 1."""
    return ops.constant(np.array(values, kind))


def parameter(name: str, shape: list[int], kind: ov.Type) -> ov.Node:
    """An input of the model; -1 is a dynamic dimension."""
    node = named(ops.parameter(ov.PartialShape(shape), kind), name)
    node.output(0).set_names({name})
    return node


def dimension(value: ov.Node, axis: int) -> ov.Node:
    """i64 [1]."""
    return ops.gather(ops.shape_of(value), vector(axis), integer(0))


def chained(inputs: Sequence[ov.Node], blocks: int, block: Callable[[int, ov.Node], ov.Node]) -> ov.Model:
    """A model with the output "y": its first input through one block, or through a residual chain of several."""
    value = inputs[0]
    for index in range(blocks):
        y = block(index, value)
        value = ops.add(value, y) if blocks > 1 else y
    result = ops.result(value)
    result.input_value(0).set_names({"y"})
    return ov.Model([result], list(inputs), "moe")
