"""How a matcher says no: a sentence that names the node and the first condition that failed."""

from __future__ import annotations

import openvino as ov

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.attributes import layer_name


class NotMatched(InvalidInputError):  # noqa: N818  (an answer of the matchers, not a failure of the program)
    """A subgraph is not what a matcher reads; finders turn it into a ``Skipped`` with its reason.

    Args:
        reason: What is wrong, written to follow the node's name, e.g. ``has transpose_b = false``.
        node: The node at which the first condition failed.
    """

    def __init__(self, reason: str, node: ov.Node) -> None:
        super().__init__(f"{describe(node)} {reason}")
        self.reason = reason
        self.node_name = layer_name(node.get_friendly_name())


def describe(node: ov.Node) -> str:
    """Type and friendly name of a node, as reasons write them: ``MatMul 'layers.0/mlp/up'``."""
    return f"{node.get_type_name()} '{layer_name(node.get_friendly_name())}'"
