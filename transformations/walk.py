"""Small steps from a node to its producers; a step that cannot be taken raises ``NotMatched``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from .not_matched import NotMatched, describe

VIEWS = frozenset({"Reshape", "Unsqueeze", "Squeeze"})
NUMPY_TYPES = frozenset({"f16", "f32", "f64", "i32", "i64"})
INTEGER_TYPES = frozenset({"i32", "i64"})

Dims = tuple[int | None, ...]


def element_type(output: ov.Output) -> str:
    """Element type in OpenVINO's short spelling, e.g. ``f16``."""
    return str(output.get_element_type().to_string())


def dims(output: ov.Output) -> Dims:
    """Dimensions of an output, None where dynamic; raises ``NotMatched`` when the rank itself is dynamic."""
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        raise NotMatched("has an output of unknown rank", output.get_node())
    return tuple(int(d.get_length()) if d.is_static else None for d in shape)


def expect_dims(output: ov.Output, wanted: Dims, role: str) -> None:
    """Raises ``NotMatched`` unless the rank agrees and each wanted number is that static dimension.

    None in ``wanted`` stands for the number of tokens: any dimension, dynamic or not.
    """
    found = dims(output)
    if len(found) != len(wanted) or any(w is not None and w != f for w, f in zip(wanted, found, strict=True)):
        raise NotMatched(f"gives {_text(found)} where {role} should be {_text(wanted)}", output.get_node())


def expect(output: ov.Output, kind: str, role: str) -> ov.Node:
    """The producer of ``output`` when it is of type ``kind``; ``role`` says what it stands for."""
    node = output.get_node()
    if node.get_type_name() != kind:
        raise NotMatched(f"stands where {role} should be a {kind}", node)
    return node


def constant(output: ov.Output) -> NDArray[np.generic] | None:
    """Values of a number constant, also through Converts (f16 exports keep scalars so); else None.

    Values of f16, f32, f64, i32 and i64 constants only: nothing that is packed.

    Raises:
        NotMatched: Its shape is beyond all memory. OpenVINO (2026.4) reads such an IR: the bytes of [2^62] overflow.
    """
    node = through_converts(output).get_node()
    if node.get_type_name() != "Constant" or element_type(node.output(0)) not in NUMPY_TYPES:
        return None
    try:
        values: NDArray[np.generic] = node.data
    except ValueError:
        raise NotMatched(f"has the shape {list(node.output(0).get_shape())}, which no memory holds", node) from None
    return values


def expect_integers(node: ov.Node, port: int, allowed: Sequence[Sequence[int]], role: str) -> None:
    """Raises ``NotMatched`` unless input ``port`` of ``node`` is a constant equal to one of ``allowed``."""
    values = constant(node.input_value(port))
    if values is None:
        raise NotMatched(f"has {role} that is not constant", node)
    found = [int(v) for v in values.reshape(-1)]
    if all(found != list(one) for one in allowed):
        raise NotMatched(f"has {role} {found} instead of {list(allowed[0])}", node)


def through_converts(output: ov.Output) -> ov.Output:
    """The output in front of a chain of Converts."""
    while output.get_node().get_type_name() == "Convert":
        output = output.get_node().input_value(0)
    return output


class Walk:
    """The nodes that a rewrite of one block leaves without work, gathered while a matcher walks over them."""

    def __init__(self) -> None:
        self._inner: dict[str, ov.Node] = {}

    def enter(self, output: ov.Output, kind: str, role: str) -> ov.Node:
        """``expect``, and the node counts as part of the block."""
        node = expect(output, kind, role)
        self._inner[node.get_name()] = node
        return node

    def through_views(self, output: ov.Output) -> ov.Output:
        """The output in front of a chain of Reshape, Unsqueeze and Squeeze.

        These keep the row-major order of all elements, so that the shapes at both ends of the chain, which
        the caller checks, say everything: with one unknown dimension at each end nothing is left to the nodes
        in between. Where the tokens stand in two unknown dimensions, ``token_axes`` looks at the nodes too.
        """
        while (node := output.get_node()).get_type_name() in VIEWS:
            self._inner[node.get_name()] = node
            output = node.input_value(0)
        return output

    def expect_closed(self, last: ov.Node) -> None:
        """Raises ``NotMatched`` when a node of the block feeds anything outside; ``last`` ends the block."""
        inside = {*self._inner, last.get_name()}
        for node in self._inner.values():
            for output in node.outputs():
                for target in output.get_target_inputs():
                    if target.get_node().get_name() not in inside:
                        outside = describe(target.get_node())
                        raise NotMatched(f"is also read by {outside}, outside the block", node)


def _text(shape: Dims) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"
