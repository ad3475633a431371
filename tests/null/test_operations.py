"""What operations say of the block that they belong to."""

from __future__ import annotations

from typing import Any

import openvino as ov
import pytest
from openvino import opset13 as ops

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.exponents import row_columns
from ov_moe.kernels.plan import PlanLayout
from ov_moe.ops import MoECombine, MoEGateUp, MoERoute
from ov_moe.spec import ProjectionSpec
from ov_moe.transformations.operations import blocks_of

SIZES: dict[str, Any] = {"experts": 8, "top_k": 2, "max_tokens": 4}
U4 = {"format": "u4", "scale": "some", "zero": "none", "group": 64}
PLAN = [PlanLayout(8, 2, 4).size, 1, 1, 1]


def parameter(shape: list[int], kind: ov.Type = ov.Type.f32) -> ov.Output:
    return ops.parameter(shape, kind).output(0)


def route(layer: str) -> ov.Node:
    return MoERoute([parameter([4, 2, 1, 1], ov.Type.i32)], **SIZES, layer=layer)


def gate_up(layer: str) -> ov.Node:
    """Of H = 64 and I = 6, with one scale a row."""
    weights = [parameter([8, 6, 32], ov.Type.u8), parameter([8, 6]), parameter([1])]
    formats = {f"{name}_{part}": word for name in ("gate", "up") for part, word in U4.items()}
    inputs = [parameter([4, 64, 1, 1]), parameter(PLAN, ov.Type.i32), *weights, *weights]
    return MoEGateUp(inputs, **SIZES, **formats, hidden=64, intermediate=6, layer=layer)


def combine(layer: str, hidden: int) -> ov.Node:
    columns = row_columns(hidden, True)
    inputs = [parameter([8, columns, 1, 1]), parameter(PLAN, ov.Type.i32), parameter([4, 2, 1, 1])]
    return MoECombine(inputs, **SIZES, hidden=hidden, d_exponents="some", layer=layer)


def test_blocks_are_told_apart_by_their_layer() -> None:
    found = blocks_of([route("a"), route("b"), gate_up("a"), combine("a", 64), combine("b", 32)])
    spec, down = ProjectionSpec("u4", 6, 64, 64), ProjectionSpec("f32", 64, 6)
    narrow = ProjectionSpec("f32", 1, 32)
    assert found == {
        "a": BlockSpec(8, 2, 4, spec, spec, down, d_exponents=True),
        "b": BlockSpec(8, 2, 4, narrow, narrow, ProjectionSpec("f32", 32, 1), d_exponents=True),
    }


def test_operations_of_a_layer_that_do_not_fit_each_other_are_refused() -> None:
    """Each is right by itself: only a file that nobody wrote has them together."""
    with pytest.raises(InvalidInputError, match=r"^The operations of layer 'a' do not fit each other: gate: group "):
        blocks_of([gate_up("a"), combine("a", 32)])
