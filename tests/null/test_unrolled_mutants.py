"""Whatever one value of a block becomes: it is skipped, or what was read of it still computes what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as ops
from unrolled_values import block_values, expected_of

from ov_moe.testing.unrolled import Family, unrolled_model
from ov_moe.transformations.families import find_blocks

E, K, H, I = 3, 2, 4, 6  # noqa: E741
SEED = 41
Change = Callable[[ov.Output], ov.Node]
INPUTS = {
    "x": np.random.default_rng(42).standard_normal((1, 3, H)).astype(np.float32),
    "ids": np.array([[2, 0], [1, 2], [0, 1]]),
    "weights": np.random.default_rng(43).random((3, K)).astype(np.float32),
}
# Their constants say how rows lie, not which; a wrong one fails at run time or changes nothing.
VIEWS = ("Broadcast", "Reshape", "Squeeze", "Unsqueeze")

FLOAT_CHANGES: dict[str, Change] = {
    "scaled": lambda o: ops.multiply(o, np.float32(0.5)),
    "rolled by rows": lambda o: ops.roll(o, np.array([1]), np.array([0])),
    "rolled by columns": lambda o: ops.roll(o, np.array([1]), np.array([-1])),
}
INTEGER_CHANGES: dict[str, Change] = {
    "one more": lambda o: ops.add(o, number(o, 1)),
    "one less": lambda o: ops.subtract(o, number(o, 1)),
    "cut at 1": lambda o: ops.minimum(o, number(o, 1)),
    "rolled": lambda o: ops.roll(o, np.array([1]), np.array([-1])),
    "reversed": lambda o: ops.subtract(number(o, 2), o),
}


def number(output: ov.Output, value: int) -> np.ndarray:
    return np.array(value, output.get_element_type().to_dtype())


def build(family: Family) -> ov.Model:
    sizes = {"experts": E, "top_k": K, "hidden": H, "intermediate": I, "precision": "f32"}
    return unrolled_model(family, rng=np.random.default_rng(SEED), topk_as_inputs=True, **sizes)[0]


def places(model: ov.Model) -> Iterator[tuple[int, int]]:
    """(index of a node, port) of every value that follows from the inputs, and of the constants beside them."""
    follows: set[str] = set()
    for index, node in enumerate(model.get_ordered_ops()):
        sources = [value.get_node() for value in node.input_values()]
        from_inputs = [source.get_name() in follows for source in sources]
        if node.get_type_name() == "Parameter" or (any(from_inputs) and node.get_type_name() != "ShapeOf"):
            follows.add(node.get_name())
        if not any(from_inputs) or node.get_type_name() in ("Result", "ShapeOf"):
            continue
        for port, source in enumerate(sources):
            fixed = source.get_type_name() == "Constant" and node.get_type_name() not in VIEWS
            known = node.input_value(port).get_element_type() in (ov.Type.f32, ov.Type.i32, ov.Type.i64)
            if known and (from_inputs[port] or fixed):
                yield index, port


def mutants(family: Family) -> Iterator[tuple[str, ov.Model]]:
    for index, port in places(build(family)):
        value = build(family).get_ordered_ops()[index].input_value(port)
        changes = FLOAT_CHANGES if value.get_element_type() == ov.Type.f32 else INTEGER_CHANGES
        for name, change in changes.items():
            model = build(family)
            node = model.get_ordered_ops()[index]
            try:
                node.input(port).replace_source_output(change(node.input_value(port)).output(0))
                model.validate_nodes_and_infer_types()
            except (RuntimeError, ValueError):
                continue  # no valid graph
            yield f"input {port} of {node.get_friendly_name()} {name}", model


@pytest.mark.parametrize("family", ["unrolled", "sorted"])
def test_a_changed_value_is_seen_or_has_no_effect(family: Family) -> None:
    total, wrong, matched, core = 0, [], [], ov.Core()
    for name, model in mutants(family):
        total += 1
        blocks, _ = find_blocks(model)
        if not blocks:
            continue
        matched.append(name)
        try:
            values = block_values(core, model, blocks, INPUTS)[0]
        except RuntimeError:
            continue  # the graph itself does not run
        if values.ids.min() < 0 or values.ids.max() >= E:
            continue  # ids that no router gives
        expected = expected_of(blocks[0], values)
        if values.y.shape != expected.shape or not np.allclose(values.y, expected, atol=1e-4):
            wrong.append(name)
    assert wrong == []
    assert total > 300
    assert 0 < len(matched) < total / 2
