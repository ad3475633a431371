"""Small changes to a test model, to see what a matcher makes of it."""

from __future__ import annotations

from collections.abc import Callable

import openvino as ov
from openvino import opset15 as ops

from ov_moe.testing.nodes import named

Edit = Callable[[ov.Model], None]


def find_node(model: ov.Model, name: str) -> ov.Node:
    """The node of this friendly name."""
    return next(node for node in model.get_ops() if node.get_friendly_name() == name)


def swap(role: str, make: Callable[[list[ov.Output]], ov.Node]) -> Edit:
    """An edit that puts what ``make`` builds from the inputs of ``blocks.0/<role>`` in its place and name."""

    def edit(model: ov.Model) -> None:
        old = find_node(model, f"blocks.0/{role}")
        new = make(old.input_values())
        old.set_friendly_name("replaced")
        _take_over(model, old, named(new, f"blocks.0/{role}"))

    return edit


def insert_after(role: str, make: Callable[[ov.Output], ov.Node]) -> Edit:
    """An edit that puts a node called ``extra`` between ``blocks.0/<role>`` and its readers."""

    def edit(model: ov.Model) -> None:
        old = find_node(model, f"blocks.0/{role}")
        readers = old.output(0).get_target_inputs()
        _take_over(model, old, named(make(old.output(0)), "extra"), readers)

    return edit


def read_twice(role: str) -> Edit:
    """An edit that makes ``blocks.0/<role>`` an output of the model too."""

    def edit(model: ov.Model) -> None:
        model.add_results([named(ops.result(find_node(model, f"blocks.0/{role}")), "second reader")])

    return edit


def _take_over(model: ov.Model, old: ov.Node, new: ov.Node, readers: set[ov.Input] | None = None) -> None:
    for reader in old.output(0).get_target_inputs() if readers is None else readers:
        reader.replace_source_output(new.output(0))
    model.validate_nodes_and_infer_types()
