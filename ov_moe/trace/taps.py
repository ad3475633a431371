"""Lets a rewritten model show the expert ids that its blocks route by. Imports openvino."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from ov_moe.commands.prompts import Ids
from ov_moe.errors import InvalidInputError
from ov_moe.generate import Session
from ov_moe.kernels.stages import ROUTE
from ov_moe.trace.recording import Counts, Layer
from ov_moe.transformations.operations import blocks_of, layer_of, moe_operations

_PREFIX = "ov_moe.trace."
# Between the ids of all tokens and the route operation of an island stand these alone.
_ON_THE_WAY = ("Reshape", "Pad")


@dataclass(frozen=True)
class Taps:
    """What a traced model shows.

    Attributes:
        model: A clone of the rewritten model with one more output for each block: its ids i32 [T, k].
        layers: The blocks, in the model's order; block i has the output ``ov_moe.trace.i``.
        experts: E.
    """

    model: ov.Model
    layers: tuple[Layer, ...]
    experts: int


def tapped(model: ov.Model) -> Taps:
    """A clone of a rewritten model that shows its blocks' ids; ``model`` itself stays as it is.

    Raises:
        InvalidInputError: The model holds no block of ov-moe, or blocks with different numbers of experts.
    """
    clone = model.clone()
    routes = {
        layer_of(node): node for node in clone.get_ordered_ops() if node.get_type_name().startswith(ROUTE.op_type)
    }
    if not routes:
        raise InvalidInputError("The model holds no ov-moe operation: rewrite it with ov_moe.optimize(model) first.")
    blocks = blocks_of(moe_operations(clone))
    experts = {block.experts for block in blocks.values()}
    if len(experts) > 1:
        raise InvalidInputError(f"The blocks have {sorted(experts)} experts: one table of them cannot be made.")
    layers: list[Layer] = []
    for index, (name, route) in enumerate(routes.items()):
        result = ops.result(_ids(route))
        result.get_output_tensor(0).add_names({f"{_PREFIX}{index}"})
        clone.add_results([result])
        block = blocks[name]
        layers.append(Layer(name, block.top_k, block.hidden, block.intermediate))
    clone.validate_nodes_and_infer_types()
    return Taps(clone, tuple(layers), experts.pop())


def _ids(route: ov.Node) -> ov.Output:
    """The ids of all tokens, [T, k], behind the padding of an island."""
    ids = route.input_value(0)
    while ids.get_node().get_type_name() in _ON_THE_WAY:
        ids = ids.get_node().input_value(0)
    return ids


class TracedSession(Session):
    """A session on a compiled ``Taps.model``."""

    def counts(self, layers: int, experts: int) -> Counts:
        """Rows of each expert in the last step, int64 [layers, experts]; padding counts for none."""
        return np.stack([count_rows(self._ids(layer), experts) for layer in range(layers)])

    def _ids(self, layer: int) -> Ids:
        return np.asarray(self._request.get_tensor(f"{_PREFIX}{layer}").data, np.int64)


def count_rows(ids: Ids, experts: int) -> Counts:
    """Rows of each expert, int64 [experts]; negative ids are padding."""
    return np.bincount(ids[ids >= 0].ravel(), minlength=experts).astype(np.int64)
