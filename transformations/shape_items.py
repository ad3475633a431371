"""What a number of a computed shape stands for: enough to see that two nodes give the same number of tokens."""

from __future__ import annotations

import openvino as ov

from .walk import constant, dims, through_converts

# A number, ("dim", node, port, axis, rank), ("product", item, item) or ("value", node, port): equal items are equal
# numbers.
Item = int | tuple[object, ...]

_ONE_NUMBER = frozenset({"Convert", "Reshape", "Squeeze", "Unsqueeze"})
_SAME_SHAPE = frozenset({"Convert", "Sigmoid", "Softmax"})


def item(output: ov.Output) -> Item:
    """The meaning of a scalar or one-element integer output.

    Raises:
        NotMatched: The rank of something on the way is unknown.
    """
    while output.get_node().get_type_name() in _ONE_NUMBER and dims(output.get_node().input_value(0)) in ((), (1,)):
        output = output.get_node().input_value(0)
    node = output.get_node()
    value = constant(output)
    if value is not None and value.size == 1:
        return int(value.reshape(-1)[0])
    if node.get_type_name() == "Multiply":
        return ("product", *sorted((item(i) for i in node.input_values()), key=str))
    shape = through_converts(node.input_value(0)).get_node() if node.get_type_name() == "Gather" else node
    index = constant(node.input_value(1)) if node.get_type_name() == "Gather" else None
    if shape.get_type_name() == "ShapeOf" and index is not None and index.size == 1:
        return dimension(shape.input_value(0), int(index.reshape(-1)[0]))
    return ("value", node.get_name(), output.get_index())


def dimension(tensor: ov.Output, axis: int) -> Item:
    """One dimension of a tensor: a number where it is static, else the tensor that it was first seen in."""
    found = dims(tensor)
    axis %= len(found)
    if (number := found[axis]) is not None:
        return number
    tensor = _same_dimension(tensor, axis)
    return ("dim", tensor.get_node().get_name(), tensor.get_index(), axis, len(found))


def row_items(ids: ov.Output) -> set[Item]:
    """What may be written for the number of rows of [T, k] ids.

    Ids of several slots may be concatenated (PhiMoE takes its two experts from two TopKs and counts the tokens
    by the first): then the rows of each part are those of all.
    """
    concat = through_converts(ids).get_node()
    parts = [ids]
    if concat.get_type_name() == "Concat" and concat.get_attributes()["axis"] in (1, -1):
        parts += concat.input_values()
    return {dimension(part, 0) for part in parts}


def is_token_count(found: Item, ids: ov.Output) -> bool:
    """Whether ``found`` is the number of rows of the ids, or B * S of some [B, S, H].

    The second is taken at its word: exports count the tokens by the hidden states in front of the router, which
    the ids come from by way of the whole layer. Should it be another number after all, the model does not run:
    neither as it was (its weighted sum joins both numbers) nor rewritten (x and the ids are joined).
    """
    if found in row_items(ids):
        return True
    if not isinstance(found, tuple) or found[0] != "product" or len(found) != 3:
        return False
    first, second = found[1:]
    return (
        isinstance(first, tuple)
        and isinstance(second, tuple)
        and first[0] == second[0] == "dim"
        and first[1:3] == second[1:3]
        and {first[3], second[3]} == {0, 1}
        and first[4] == 3
    )


def _same_dimension(tensor: ov.Output, axis: int) -> ov.Output:
    """The first tensor of a chain of nodes that keep this dimension."""
    while True:
        node = tensor.get_node()
        kind = node.get_type_name()
        if kind == "TopK" and int(node.get_attributes()["axis"]) % len(dims(tensor)) == axis:
            return node.output(0)
        if kind not in _SAME_SHAPE and kind != "TopK":
            return tensor
        tensor = node.input_value(0)
