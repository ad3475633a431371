"""Near misses of experts one by one: by the reason for which each is left alone, the edit that makes it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from ov_moe.testing.graphs import Edit, find_node, insert_after, read_twice, swap
from ov_moe.testing.unrolled import Family, unrolled_model

E, K, H, I = 6, 2, 64, 32  # noqa: E741


def family_model(family: Family) -> ov.Model:
    """A block of 6 experts in u4 beside a shared one."""
    rng = np.random.default_rng(31)
    return unrolled_model(family, rng=rng, shared_expert=True, experts=E, top_k=K, hidden=H, intermediate=I)[0]


def without(role: str) -> Edit:
    """Readers of ``role`` read its first input."""

    def edit(model: ov.Model) -> None:
        node = find_node(model, f"blocks.0/{role}")
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(node.input_value(0))

    return edit


def every_output(role: str, make: Callable[[list[ov.Output]], ov.Node]) -> Edit:
    """``swap`` for a node of several outputs."""

    def edit(model: ov.Model) -> None:
        old = find_node(model, f"blocks.0/{role}")
        new = make(old.input_values())
        old.set_friendly_name("replaced")
        new.set_friendly_name(f"blocks.0/{role}")
        for was, now in zip(old.outputs(), new.outputs(), strict=False):
            for target in was.get_target_inputs():
                target.replace_source_output(now)
        model.validate_nodes_and_infer_types()

    return edit


def choose(role: str, expert: int) -> Edit:
    """Another expert in the Gather ``role``."""
    return swap(role, lambda i: ops.gather(i[0], np.int64(expert), i[2]))


def scatter(axis: int = 0, **attributes: object) -> Callable[[list[ov.Output]], ov.Node]:
    return lambda i: ops.scatter_elements_update(*i[:3], np.int64(axis), **({"reduction": "sum"} | attributes))


def ones(*shape: int, kind: type = np.float32) -> ov.Node:
    return ops.constant(np.ones(shape, kind), name="others")


def before(output: ov.Output, port: int = 0) -> ov.Output:
    return output.get_node().input_value(port)


def slots_of(tokens: ov.Output) -> ov.Node:
    """The slots of the pairs whose (converted, squeezed) tokens these are."""
    return ops.convert(ops.squeeze(before(before(tokens)).get_node().output(0), np.int64(0)), "i32")


def cut(first: int | None, last: int | None) -> Callable[[list[ov.Output]], ov.Node]:
    """A Slice with another fixed start or stop."""

    def make(i: list[ov.Output]) -> ov.Node:
        start, stop = (np.array([n]) if n is not None else i[p] for p, n in ((1, first), (2, last)))
        return ops.slice(i[0], start, stop, *i[3:])

    return make


SCATTER = "ScatterElementsUpdate 'blocks.0/"
UNROLLED: dict[str, Edit] = {
    f"{SCATTER}5/scatter' ends a sum without expert 3 of 6": without("3/scatter"),
    f"{SCATTER}3/scatter' adds expert 2 a second time": choose("3/choice", 2),
    f"{SCATTER}3/scatter' adds expert -1 of 6": choose("3/choice", -1),
    f"{SCATTER}3/scatter' adds expert 3, which has another x": swap(
        "3/gather", lambda i: ops.gather(ops.relu(i[0]), *i[1:])
    ),
    f"{SCATTER}3/scatter' adds expert 3, which has another top-k weights": swap(
        "3/factor_gather",
        lambda i: ops.gather(ops.reshape(ops.sqrt(before(before(i[0]))), np.array([-1, 1]), False), *i[1:]),
    ),
    f"{SCATTER}3/scatter' adds expert 3, which has another mask of chosen experts": swap(
        "3/choice", lambda i: ops.gather(ops.transpose(before(i[0]), np.array([2, 1, 0])), *i[1:])
    ),
    f"{SCATTER}3/scatter' adds expert 3, which has another activation": swap(
        "3/swish", lambda i: ops.swish(i[0], np.float32(2))
    ),
    f"{SCATTER}3/scatter' has the reduction none instead of sum": swap("3/scatter", scatter(reduction="none")),
    f"{SCATTER}3/scatter' has use_init_val = false": swap("3/scatter", scatter(use_init_val=False)),
    f"{SCATTER}3/scatter' has an axis [1] instead of [0]": swap("3/scatter", scatter(1)),
    f"{SCATTER}3/scatter' is also read by Result 'second reader', outside the block": read_twice("3/scatter"),
    "MatMul 'blocks.0/3/down' is also read by Result 'second reader', outside the block": read_twice("3/down"),
    "OneHot 'blocks.0/one_hot' is also read by Result 'second reader', outside the block": read_twice("one_hot"),
    "OneHot 'blocks.0/one_hot' has a value for other experts [1] instead of [0]": swap(
        "one_hot", lambda i: ops.one_hot(*i[:3], np.int64(1), 2)
    ),
    "OneHot 'blocks.0/one_hot' has a value for chosen experts [0] instead of [1]": swap(
        "one_hot", lambda i: ops.one_hot(*i[:2], np.int64(0), np.int64(0), 2)
    ),
    "OneHot 'blocks.0/one_hot' gives a mask of type f32, not i32 or i64": swap(
        "one_hot", lambda i: ops.one_hot(*i[:2], np.float32(1), np.float32(0.5), 2)
    ),
    "Transpose 'blocks.0/mask' has an order [0, 1, 2] instead of [2, 1, 0]": swap(
        "mask", lambda i: ops.transpose(i[0], np.array([0, 1, 2]))
    ),
    "Broadcast 'blocks.0/zeros' is not the zeros that the experts are added to": swap(
        "zeros", lambda i: ops.broadcast(np.float32(0.5), i[1])
    ),
    "Relu 'extra' stands where the zeros that the experts are added to should be a Broadcast": insert_after(
        "zeros", ops.relu
    ),
    "Multiply 'blocks.0/3/line' does not multiply by k = 2": swap(
        "3/line", lambda i: ops.multiply(i[0], np.array([3], np.int32))
    ),
    "Multiply 'blocks.0/3/line' does not multiply the tokens of the same rows": swap(
        "3/line", lambda i: ops.multiply(slots_of(i[0]), i[1])
    ),
    "Add 'blocks.0/3/place' does not add the slots of the same tokens": swap(
        "3/place", lambda i: ops.add(before(i[1]), i[1])
    ),
    "Multiply 'blocks.0/3/weighted' multiplies other tokens of expert 3 than those to which it adds": swap(
        "3/gather", lambda i: ops.gather(i[0], slots_of(i[1]), i[2])
    ),
    "Split 'blocks.0/3/pairs' does not give the tokens as the second of two outputs": swap(
        "3/token", lambda i: slots_of(ops.convert(i[0], "i64").output(0))
    ),
    f"{SCATTER}2/scatter' stands where the first row of the sum so far should be a Slice": swap(
        "3/row_shape", lambda i: ops.shape_of(before(i[0]), "i32")
    ),
    "Slice 'blocks.0/3/row' does not cut one row of 64": swap(
        "3/row", lambda i: ops.slice(i[0], i[1], np.array([2, H], np.int32), *i[3:])
    ),
    "Slice 'blocks.0/3/row' does not cut the sum to which rows are added": swap(
        "3/row", lambda i: ops.slice(before(i[0]), *i[1:])
    ),
    "Broadcast 'blocks.0/3/places' has a target shape [2, 64] instead of [1, 64]": swap(
        "3/places", lambda i: ops.broadcast(i[0], np.array([2, H]), broadcast_spec="BIDIRECTIONAL")
    ),
    "Multiply 'blocks.0/3/gated' multiplies a gate and an up projection of different inputs": swap(
        "3/up", lambda i: ops.matmul(ops.relu(i[0]), i[1], False, True)
    ),
    "MatMul 'blocks.0/3/up' has transpose_b = false": swap(
        "3/up", lambda i: ops.matmul(i[0], ones(H, I), False, False)
    ),
    "Add 'extra' stands where the down projection of expert 3 should be a MatMul": insert_after(
        "3/down", lambda o: ops.add(o, np.ones((1, H), np.float32))
    ),
    "Constant 'others' holds an up projection of expert 3 of [N, K] = [1, 64] where the block needs [32, 64]": swap(
        "3/up", lambda i: ops.matmul(i[0], ones(1, H), False, True)
    ),
    "Constant 'others' holds expert 3 as f32 [32, 64] where expert 0 is u4 g32 asym [32, 2, 32] with f16 scales": swap(
        "3/up", lambda i: ops.matmul(i[0], ones(I, H), False, True)
    ),
}


SORTED: dict[str, Edit] = {
    "TopK 'blocks.0/sort' has the mode max instead of min": every_output(
        "sort", lambda i: ops.topk(*i, 0, "max", "value", "i64")
    ),
    "TopK 'blocks.0/sort' has the sort index instead of value": every_output(
        "sort", lambda i: ops.topk(*i, 0, "min", "index", "i64")
    ),
    "TopK 'blocks.0/sort' does not give the order of all pairs": every_output(
        "sort", lambda i: ops.topk(i[0], np.int64(7), 0, "min", "value", "i64")
    ),
    "TopK 'blocks.0/topk' stands where the ids of all pairs should be a view of rows of 3": swap(
        "token", lambda i: ops.divide(i[0], np.array([3]))
    ),
    "Add 'blocks.0/token' stands where the token of a pair, pair / k should be a Divide": swap(
        "token", lambda i: ops.add(i[0], i[1])
    ),
    "VariadicSplit 'blocks.0/halves' does not give gate as its first and up as its second half": swap(
        "gated", lambda i: ops.multiply(ops.swish(i[1]), before(i[0]))
    ),
    "VariadicSplit 'blocks.0/halves' does not cut two equal halves": every_output(
        "halves", lambda i: ops.variadic_split(*i[:2], np.array([I, I, 0]))
    ),
    "Slice 'blocks.0/3/down_rows' cuts the rows of experts 0 to 3 for expert 3": swap("3/down_rows", cut(0, None)),
    "Constant 'fixed' is a fixed bound [5] between experts": swap(
        "3/gate_up_rows", lambda i: ops.slice(*i[:2], ops.constant(np.array([5]), name="fixed"), *i[3:])
    ),
    "Slice 'blocks.0/1/down_rows' cuts the rows of experts 1 to 1 for expert 0": swap(
        "down", lambda i: ops.concat([i[1], i[0], *i[2:]], 0)
    ),
    "Slice 'blocks.0/3/down_rows' has a step [2] instead of [1]": swap(
        "3/down_rows", lambda i: ops.slice(*i[:3], np.array([2]), i[4])
    ),
    "Slice 'blocks.0/3/down_rows' cuts expert 3 from other rows than expert 0": swap(
        "3/down_rows", lambda i: ops.slice(ops.relu(i[0]), *i[1:])
    ),
    "Concat 'blocks.0/gate_up' joins 6 experts where down has 5": swap("down", lambda i: ops.concat(i[:-1], 0)),
    "Add 'blocks.0/3/end' does not add the rows of expert 2 to those of the experts before it": choose("3/count", 2),
    "Gather 'blocks.0/3/count' reads other counts than the bounds before": swap(
        "3/count", lambda i: ops.gather(ops.add(i[0], np.array([1])), *i[1:])
    ),
    f"{SCATTER}marks' counts other ids than those that are sorted": swap(
        "marks", lambda i: ops.scatter_elements_update(i[0], ops.abs(i[1]), *i[2:])
    ),
    f"{SCATTER}marks' does not write ones into zeros (input 2)": swap(
        "ones", lambda i: ops.broadcast(np.int64(2), i[1])
    ),
    f"{SCATTER}marks' has an axis [0] instead of [1]": swap(
        "marks", lambda i: ops.scatter_elements_update(*i[:3], np.int64(0))
    ),
    "Gather 'blocks.0/factor_gather' does not put the weights into the order of the sorted pairs": swap(
        "factor_gather", lambda i: ops.gather(i[0], ops.convert(before(i[1], 0).get_node().output(0), "i32"), i[2])
    ),
    "Gather 'blocks.0/gather' gathers other tokens than those to which the results are added": swap(
        "gather", lambda i: ops.gather(i[0], ops.abs(i[1]), i[2])
    ),
    "Concat 'blocks.0/gate_up' is also read by Result 'second reader', outside the block": read_twice("gate_up"),
    "Broadcast 'blocks.0/zeros' is not the zeros that the experts are added to": swap(
        "zeros", lambda i: ops.broadcast(np.float32(0.5), i[1])
    ),
    "Constant 'others' holds expert 3 as f32 [64, 32] where expert 0 is u4 channel asym [64, 32] with f16 scales": swap(
        "3/down", lambda i: ops.matmul(i[0], ones(H, I), False, True)
    ),
    f"{SCATTER}scatter' has the reduction max instead of sum": swap("scatter", scatter(reduction="max")),
}
