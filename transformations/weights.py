"""Reads the decompression chain behind a weight input: which constants hold it and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import openvino as ov
from openvino.op import Constant

from ov_moe.kernels.formats import FLOATS, FORMATS, FOUR_BIT, SCALED
from ov_moe.spec import ProjectionSpec

from .not_matched import NotMatched
from .walk import dims, element_type, expect, through_converts

UNSIGNED = ("u8", "u4")


@dataclass(frozen=True, eq=False)
class ExpertWeights:
    """The weights of one projection of all experts, as the model's own constants.

    Compared by identity: ``==`` on OpenVINO nodes builds an Equal operation.

    Attributes:
        spec: Element type, N, K, group size and zero point.
        values: [E, N, K], or [E, N, G, group] where K is in groups.
        scale: f16 or f32 (f8e8m0 of f4e2m1 weights) [E, N, 1] or [E, N, G, 1]; None for f16 and f32 weights.
        zero_point: Element type of ``values``, shape of ``scale``; None when nothing is subtracted.
    """

    spec: ProjectionSpec
    values: Constant
    scale: Constant | None
    zero_point: Constant | None

    @property
    def experts(self) -> int:
        """E, the first dimension of the values."""
        return int(self.values.shape[0])


class Stored(NamedTuple):
    """What a decompression chain consists of, whatever stands in front of N; the fields are those of ExpertWeights."""

    spec: ProjectionSpec
    values: Constant
    scale: Constant | None = None
    zero_point: Constant | None = None


def read_weights(output: ov.Output) -> ExpertWeights:
    """Reads what feeds the weight input of a MatMul of all experts: ``read_chain`` of static [E, N, K] floats."""
    return ExpertWeights(*read_chain(output, ("E", "N", "K")))


def read_chain(output: ov.Output, axes: tuple[str, ...]) -> Stored:
    """Reads what feeds a MatMul's weight input.

    The chain is the one NNCF writes and optimum-intel exports carry: Constant -> Convert
    [-> Subtract(Convert(zero point))] -> Multiply(scale) [-> Reshape] [-> Convert], or a float Constant
    [-> Convert]. Weights of mxfp4 are f4e2m1 and their scales f8e8m0 behind a Convert. Codebooks (cb4, nf4) are
    not read.

    Args:
        output: Static floats, e.g. ``matmul.input_value(1)``.
        axes: Names of its axes; the last two are N and K.

    Returns:
        The constants of the chain and their description; nothing is copied or changed.

    Raises:
        NotMatched: Naming the first node that does not belong to such a chain, or a 4-bit row that would not
            start at a byte (K and the group size must be even).
    """
    found = dims(output)
    if len(found) != len(axes) or None in found:
        raise NotMatched(f"gives weights of shape {list(found)}, not a static [{', '.join(axes)}]", output.get_node())
    shape = list(cast("tuple[int, ...]", found))
    n, k = shape[-2:]
    inner = _before_float_converts(output)
    if inner.get_node().get_type_name() == "Constant":
        return _floats(inner.get_node(), n, k)
    if inner.get_node().get_type_name() == "Reshape":
        inner = _before_float_converts(inner.get_node().input_value(0))
    stored, scale_output = _operands(expect(inner, "Multiply", "the scaling of the weights"))
    values, zero_point = _integers(stored)
    scale = _scale(scale_output, element_type(values.output(0)))
    group_size = _group_size(values, shape)
    for companion in (scale, zero_point):
        if companion is not None and list(companion.shape) != [*values.shape[:-1], 1]:
            raise NotMatched(
                f"has shape {list(companion.shape)} beside values of shape {list(values.shape)}", companion
            )
    precision = element_type(values.output(0))
    return Stored(ProjectionSpec(precision, n, k, group_size, zero_point is not None), values, scale, zero_point)


def _before_float_converts(output: ov.Output) -> ov.Output:
    """The output in front of a chain of Converts to f16 or f32."""
    while output.get_node().get_type_name() == "Convert" and element_type(output) in FLOATS:
        output = output.get_node().input_value(0)
    return output


def _floats(values: Constant, n: int, k: int) -> Stored:
    precision = element_type(values.output(0))
    if precision in SCALED:
        raise NotMatched(f"holds {precision} weights without a scale", values)
    if precision not in FLOATS:
        raise _unreadable(values)
    return Stored(ProjectionSpec(precision, n, k), values)


def _operands(multiply: ov.Node) -> tuple[ov.Output, ov.Output]:
    """(stored values, scale): the scale is the operand that is a constant of a scale's type, else the second one."""
    first, second = multiply.input_values()
    bare = _before_float_converts(first).get_node()
    if bare.get_type_name() == "Constant" and element_type(bare.output(0)) in (*FLOATS, "f8e8m0"):
        return second, first
    return first, second


def _scale(output: ov.Output, weights_type: str) -> Constant:
    wanted = ("f8e8m0",) if FORMATS[weights_type].scale == "e8m0" else ("f16", "f32")
    scale = _before_float_converts(output).get_node()
    if scale.get_type_name() != "Constant":
        raise NotMatched(f"stands where the scale should be an {' or '.join(wanted)} Constant", scale)
    if element_type(scale.output(0)) not in wanted:
        found = element_type(scale.output(0))
        raise NotMatched(f"is a scale of type {found}; that of {weights_type} is {' or '.join(wanted)}", scale)
    return scale


def _integers(stored: ov.Output) -> tuple[Constant, Constant | None]:
    """(values, zero point) behind the operand that is scaled."""
    gather = _before_float_converts(stored).get_node()
    if gather.get_type_name() == "Gather":
        raise NotMatched(f"looks weights up in a codebook of {_codes(gather)}, which is not read", gather)
    node = stored.get_node()
    if node.get_type_name() != "Subtract":
        return _converted(stored, "the stored weights"), None
    values = _converted(node.input_value(0), "the stored weights")
    zero_point = _converted(node.input_value(1), "the zero point")
    weights_type, zero_type = element_type(values.output(0)), element_type(zero_point.output(0))
    if zero_type != weights_type or weights_type not in UNSIGNED:
        raise NotMatched(f"is a {zero_type} zero point of {weights_type} weights", zero_point)
    return values, zero_point


def _codes(gather: ov.Node) -> str:
    """Element types of a codebook and of the ids that look it up."""
    entries, ids = (element_type(through_converts(gather.input_value(port))) for port in (0, 1))
    return f"{entries} by {ids} ids"


def _converted(output: ov.Output, role: str) -> Constant:
    """The Constant in front of a Convert to f16 or f32."""
    convert = expect(output, "Convert", f"the conversion of {role}")
    if element_type(convert.output(0)) not in FLOATS:
        raise NotMatched(f"converts {role} to {element_type(convert.output(0))}", convert)
    found = expect(convert.input_value(0), "Constant", role)
    if element_type(found.output(0)) not in SCALED:
        raise _unreadable(found)
    return found


def _group_size(values: Constant, wanted: list[int]) -> int:
    """Elements of K a scale; raises when the stored shape is neither ``wanted`` [..., N, K] nor [..., N, G, group]."""
    shape = [int(d) for d in values.shape]
    grouped = shape[:-2] == wanted[:-1] and shape[-2] * shape[-1] == wanted[-1]
    if shape != wanted and not grouped:
        raise NotMatched(f"holds shape {shape}, which is not {wanted} nor its groups", values)
    if element_type(values.output(0)) in FOUR_BIT and shape[-1] % 2:
        raise NotMatched(f"has 4-bit rows or groups of {shape[-1]} elements, not whole bytes", values)
    if shape[-1] % 2 and shape[-1] != wanted[-1]:
        raise NotMatched(f"has groups of {shape[-1]} elements, an odd number", values)
    return shape[-1]


def _unreadable(values: Constant) -> NotMatched:
    served = ", ".join(FLOATS + SCALED)
    return NotMatched(f"holds {element_type(values.output(0))} weights; {served} are read", values)
