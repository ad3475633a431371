"""Attributes as a file may hold them: what ov-moe writes is read back, and all else is refused in a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.activations import ACTIVATIONS
from ov_moe.kernels.attributes import (
    Attribute,
    activation_attributes,
    check_layer_name,
    layer_name,
    parse_activation,
    parse_projection,
    parsed,
    projection_attributes,
)
from ov_moe.kernels.block import SMALLEST, BlockSpec
from ov_moe.kernels.compose import program
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.formats import FORMATS, FOUR_BIT
from ov_moe.kernels.stages import COMBINE, DOWN, GATE_UP, GATE_UP_FUSED, ROUTE, STAGES
from ov_moe.ops.registry import OPERATIONS
from ov_moe.spec import Activation, ActivationKind, GateUpLayout, ProjectionSpec

CODE = "(*(volatile global int *)0xdeadUL = 1, 1.0f)"
SINGLES = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def projections(draw: st.DrawFn) -> ProjectionSpec:
    """Any projection that a block may have."""
    precision = draw(st.sampled_from(list(FORMATS)))
    group = 2 * draw(st.integers(1, 64))
    k = group * draw(st.integers(1, 8))
    if precision in ("f16", "f32"):
        return ProjectionSpec(precision, draw(st.integers(1, 99)), k)
    zero = FORMATS[precision].zero_point and draw(st.booleans())
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


@st.composite
def blocks(draw: st.DrawFn) -> BlockSpec:
    """Any block, with sizes, formats, layout and switches of its own."""
    layout = draw(st.sampled_from(get_args(GateUpLayout)))
    gate = draw(projections())
    down = draw(projections())
    if layout != "separate":
        gate = replace(gate, n=2 * gate.n)
    i = gate.n if layout == "separate" else gate.n // 2
    # Down's K is I, whatever its format asks of K: floats, or a scale a channel where rows fill bytes.
    if down.precision in FOUR_BIT and i % 2:
        down = replace(down, precision="u8")
    down = replace(down, n=gate.k, k=i, group_size=i if down.group_size else 0)
    some = st.booleans()
    return BlockSpec(
        experts=draw(st.integers(1, 512)),
        top_k=draw(st.integers(1, 16)),
        max_tokens=draw(st.integers(1, 8192)),
        gate=gate,
        up=replace(draw(projections()), n=i, k=gate.k, precision="i8", group_size=gate.k) if gate.n == i else None,
        down=down,
        layout=layout,
        activation=Activation(draw(st.sampled_from(list(ACTIVATIONS))), draw(SINGLES), None, draw(SINGLES)),
        gate_bias=layout != "separate" and draw(some),
        down_bias=draw(some),
        h_exponents=draw(some),
        d_exponents=draw(some),
    )


def in_f32(spec: ProjectionSpec | None) -> ProjectionSpec | None:
    return replace(spec, precision="f32") if spec is not None and spec.precision == "f16" else spec


@given(blocks())
def test_a_block_is_read_back(block: BlockSpec) -> None:
    """f16 and f32 share a word; all else comes back as it was."""
    found = BlockSpec.from_attributes({**block.attributes(), "layer": "a", "build": "none"})
    expected = {name: in_f32(getattr(block, name)) for name in ("gate", "up", "down")}
    assert found == replace(block, **expected)
    assert found.attributes() == block.attributes()


@given(blocks())
def test_an_operation_describes_its_part_of_a_block(block: BlockSpec) -> None:
    """Every stage's attributes alone give the shapes of its buffers; a block of its stages' is the whole one."""
    stages = (ROUTE, block.gate_up_stage, DOWN, COMBINE)
    words, whole = block.attributes(), dict[str, Attribute]()
    for stage in stages:
        own = {name: words[name] for name in stage.attributes}
        part = BlockSpec.from_attributes(own)
        assert {name: part.attributes()[name] for name in own} == own
        assert part.plan_layout == block.plan_layout
        whole |= own
        if stage is block.gate_up_stage:
            assert (part.gate, part.up, part.h_columns) == (in_f32(block.gate), in_f32(block.up), block.h_columns)
        if stage is DOWN:
            assert (part.down, part.h_columns, part.d_columns) == (in_f32(block.down), block.h_columns, block.d_columns)
        if stage is COMBINE:
            assert (part.hidden, part.d_columns) == (block.hidden, block.d_columns)
    assert BlockSpec.from_attributes(whole) == BlockSpec.from_attributes(words)


def test_what_is_not_named_is_of_the_smallest_block() -> None:
    one = ProjectionSpec("f32", 1, 1)
    assert BlockSpec.from_attributes({}) == BlockSpec(1, 1, 1, one, one, one)
    assert BlockSpec.from_attributes({}).attributes() == SMALLEST


@pytest.mark.parametrize("stage", [GATE_UP, GATE_UP_FUSED], ids=lambda stage: stage.op_type)
@pytest.mark.parametrize("layout", get_args(GateUpLayout))
def test_a_layout_of_the_other_operation_is_refused(stage: Any, layout: str) -> None:
    """Else a kernel would look for rows of up where none are."""
    own = {**{name: SMALLEST[name] for name in stage.attributes}, "layout": layout}
    if (layout == "separate") == (stage is GATE_UP):
        assert BlockSpec.from_attributes(own).gate_up_stage is stage
    else:
        with pytest.raises(InvalidInputError, match=f"layout '{layout}' with"):
            BlockSpec.from_attributes(own)


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
    ("build", "maybe"),
    ("build", "on\n"),
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
    with pytest.raises(InvalidInputError, match=name.replace("layer", "layer name")):
        BlockSpec.from_attributes({name: value})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_every_attribute_of_every_operation_is_known() -> None:
    """One that the parser does not know would be refused on reading any model."""
    for operation in OPERATIONS:
        assert {*operation.stage.attributes, "layer", "build"} < set(operation().attributes)
        assert parsed({**operation().attributes, "balance": "on"})


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
