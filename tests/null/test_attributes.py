"""Attributes as a file may hold them: what ov-moe writes is read back, and all else is refused in a sentence."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.activations import ACTIVATIONS
from ov_moe.kernels.attributes import (
    activation_attributes,
    check_layer_name,
    layer_name,
    parse_activation,
    parse_projection,
    parsed,
    projection_attributes,
)
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.compose import program
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.stages import ROUTE, STAGES
from ov_moe.ops.registry import OPERATIONS
from ov_moe.spec import Activation, ActivationKind, Precision, ProjectionSpec

CODE = "(*(volatile global int *)0xdeadUL = 1, 1.0f)"
SINGLES = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def projections(draw: st.DrawFn) -> ProjectionSpec:
    """Any projection that a block may have."""
    precision = draw(st.sampled_from(get_args(Precision)))
    group = 2 * draw(st.integers(1, 64))
    k = group * draw(st.integers(1, 8))
    if precision in ("f16", "f32"):
        return ProjectionSpec(precision, draw(st.integers(1, 99)), k)
    zero = precision != "f4e2m1" and draw(st.booleans())
    return ProjectionSpec(precision, draw(st.integers(1, 99)), k, draw(st.sampled_from([group, k])), zero)


@given(projections(), st.sampled_from(["gate", "up", "down"]))
def test_a_projection_is_read_back(spec: ProjectionSpec, name: str) -> None:
    written = parsed(projection_attributes(name, spec))
    read = parse_projection(written, name, spec.n, spec.k)
    assert read == (ProjectionSpec("f32", spec.n, spec.k) if spec.precision == "f16" else spec)
    assert projection_attributes(name, read) == written


@given(st.sampled_from(list(ACTIVATIONS)), SINGLES, st.none() | SINGLES.map(abs), SINGLES)
def test_an_activation_is_read_back(kind: ActivationKind, beta: float, limit: float | None, offset: float) -> None:
    activation = Activation(kind, beta, limit, offset)
    assert parse_activation(parsed(activation_attributes(activation))) == activation


@given(st.text())
def test_text_is_a_number_or_refused(text: str) -> None:
    """What a program gets is written anew: one literal, whatever stood in the file."""
    try:
        written = str(parsed({"beta": text})["beta"])
    except InvalidInputError:
        return
    assert np.isfinite(np.float32(written.removesuffix("f")))
    assert set(written) <= set("0123456789.e+-f")


REFUSED = [
    ("beta", CODE),
    ("beta", "INFINITY"),
    ("beta", "nanf"),
    ("beta", "1e99f"),
    ("beta", "1.0f\n"),
    ("beta", "1_0.0f"),
    ("beta", "\N{ARABIC-INDIC DIGIT ONE}.0f"),
    ("beta", ""),
    ("limit", "-1.0f"),
    ("limit", "NAN"),
    ("up_offset", "0x1p3f"),
    ("activation", "swiglu(gate) + up) //"),
    ("layout", "separate\n"),
    ("gate_format", "u4 "),
    ("gate_scale", "e5m2"),
    ("down_zero", "f16"),
    ("down_bias", "1"),
    ("balance", "maybe"),
    ("experts", 0),
    ("experts", -1),
    ("top_k", 2**31),
    ("max_tokens", "5"),
    ("hidden", True),
    ("up_group", -2),
    ("build", CODE),
    ("build", "0123456789ABCDEF"),
    ("layer", "a\nb"),
    ("layer", "a\r#include <x>"),
    ("layer", "x" * 5000),
    ("colour", "red"),
]


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=repr)
def test_what_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=name.replace("layer", "layer name")) as error:
        parsed({name: value})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_every_attribute_of_every_operation_is_known() -> None:
    """One that the parser does not know would be refused on reading any model."""
    for operation in OPERATIONS:
        assert set(operation.stage.attributes) <= set(parsed({**operation.defaults, "experts": 1})) | {
            "top_k",
            "max_tokens",
        }


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.op_type)
def test_no_attribute_reaches_a_program_unparsed(stage: Any) -> None:
    spec = ProjectionSpec("u4", 32, 64, 32, True)
    down = ProjectionSpec("u4", 64, 32, 32, True)
    good = dict(BlockSpec(8, 2, 16, spec, spec, down).attributes())
    for name in stage.attributes:
        with pytest.raises(InvalidInputError, match=name):
            program(stage, KernelConfig("grid", "ticket", 1), {**good, name: CODE}, [], ((1, 1), "float32"))


def test_an_attribute_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidInputError, match="MoERoute lacks the attribute top_k"):
        program(ROUTE, KernelConfig("grid", "ticket", 1), {"experts": 1, "max_tokens": 1}, [], ((1, 1), "int32"))


@pytest.mark.parametrize(
    "change",
    [{"gate_scale": "none"}, {"gate_zero": "i4"}, {"gate_group": 0}, {"gate_group": 3}, {"gate_format": "float"}],
    ids=repr,
)
def test_attributes_that_do_not_fit_each_other(change: dict[str, Any]) -> None:
    written = projection_attributes("gate", ProjectionSpec("u4", 32, 64, 32, True))
    with pytest.raises(InvalidInputError):
        parse_projection({**written, **change}, "gate", 32, 64)


@pytest.mark.parametrize(
    "sizes", [(2**20, 2**10, 2**20, 1), (2**24, 2**10, 2**5, 1), (2**20, 2**10, 8, 2**18)], ids=str
)
def test_sizes_beyond_what_a_kernel_counts(sizes: tuple[int, int, int, int]) -> None:
    names = ("max_tokens", "top_k", "hidden", "intermediate")
    with pytest.raises(InvalidInputError, match="lower max_tokens"):
        parsed(dict(zip(names, sizes, strict=True)))
    hidden, intermediate = sizes[2:]
    gate, down = ProjectionSpec("f16", intermediate, hidden), ProjectionSpec("f16", hidden, intermediate)
    with pytest.raises(InvalidInputError, match="lower max_tokens"):
        BlockSpec(8, sizes[1], sizes[0], gate, gate, down)


@given(st.text(max_size=6000))
def test_a_name_that_was_made_safe_is_accepted(name: str) -> None:
    safe = layer_name(name)
    check_layer_name(f"{safe}#1000/MoEGateUpFusedDecode")
    assert len(safe.splitlines()) <= 1
    if name.isprintable() and len(name) < 2000:
        assert safe == name


def test_an_odd_group_is_only_a_whole_row() -> None:
    """The parser asks the same of a file as the matchers ask of a model."""
    with pytest.raises(InvalidInputError, match="even"):
        parse_projection(
            {"gate_format": "u8", "gate_scale": "some", "gate_zero": "none", "gate_group": 3}, "gate", 2, 9
        )
