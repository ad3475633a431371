"""Finds ov-moe's operations in a model, inside loop bodies too, and says what they are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import openvino as ov

from ov_moe.arguments import shown
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.stages import STAGES, Stage

_BY_TYPE: dict[str, Stage] = {stage.op_type: stage for stage in STAGES}


def port_bytes(port: Any) -> int:
    """Bytes of an operation's input or output; 0 where its shape is not static."""
    shape = port.get_partial_shape()
    count = math.prod(shape.to_shape()) if shape.is_static else 0
    return -(-count * int(port.get_element_type().bitwidth) // 8)


def moe_operations(model: ov.Model) -> Iterator[ov.Node]:
    """Every operation of ov-moe in ``model`` and in the bodies of its loops."""
    for node in model.get_ordered_ops():
        if node.get_type_name() in _BY_TYPE:
            yield node
        elif node.get_type_name() == "Loop":
            yield from moe_operations(node.get_function())


def stage_of(operation: ov.Node) -> Stage:
    """The stage that an operation stands for."""
    return _BY_TYPE[operation.get_type_name()]


def layer_of(operation: ov.Node) -> str:
    """The name of the block that an operation belongs to."""
    return str(operation.get_attributes()["layer"])


def blocks_of(operations: Iterable[ov.Node]) -> dict[str, BlockSpec]:
    """The blocks that operations belong to, by layer; of operations for few and for many tokens the last one's room.

    Raises InvalidInputError, naming the layer, where its operations do not fit each other.
    """
    merged = defaultdict[str, dict[str, object]](dict)
    for node in operations:
        merged[layer_of(node)] |= node.get_attributes()
    blocks = {}
    for layer, attributes in merged.items():
        try:
            blocks[layer] = BlockSpec.from_attributes(attributes)
        except InvalidInputError as error:
            raise InvalidInputError(f"The operations of layer {shown(layer)} do not fit each other: {error}") from None
    return blocks
