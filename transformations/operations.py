"""Finds ov-moe's operations in a model, inside loop bodies too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import openvino as ov

from ov_moe.kernels.stages import STAGES

_TYPES = frozenset(stage.op_type for stage in STAGES)


def port_bytes(port: Any) -> int:
    """Bytes of an operation's input or output; 0 where its shape is not static."""
    shape = port.get_partial_shape()
    count = math.prod(shape.to_shape()) if shape.is_static else 0
    return -(-count * int(port.get_element_type().bitwidth) // 8)


def moe_operations(model: ov.Model) -> Iterator[ov.Node]:
    """Every operation of ov-moe in ``model`` and in the bodies of its loops."""
    for node in model.get_ordered_ops():
        if node.get_type_name() in _TYPES:
            yield node
        elif node.get_type_name() == "Loop":
            yield from moe_operations(node.get_function())
