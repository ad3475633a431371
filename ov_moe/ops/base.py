"""What the four operations share: attributes that survive cloning and saving, checked inputs, evaluation."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import openvino as ov

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.attributes import FOUR_BIT, Attribute, parse_projection, parsed
from ov_moe.kernels.exponents import row_columns
from ov_moe.kernels.plan import PlanLayout
from ov_moe.kernels.stages import Stage
from ov_moe.ops.evaluate import evaluate_stage

_SIZES: dict[str, Attribute] = {"experts": 1, "top_k": 1, "max_tokens": 1}
REAL_TYPES = ("f32", "f16")
ACTIVATION_DEFAULTS: dict[str, Attribute] = {
    "layout": "separate",
    "activation": "swiglu",
    "beta": "1.0f",
    "limit": "INFINITY",
    "up_offset": "0.0f",
}


def projection_defaults(name: str) -> dict[str, Attribute]:
    """Attributes of one projection with values of the right type (an attribute's type is its default's)."""
    return {f"{name}_format": "float", f"{name}_scale": "none", f"{name}_zero": "none", f"{name}_group": 0}


class MoEOp(ov.Op):  # type: ignore[misc]  # openvino ships no types
    """Base of the operations: static rank-4 buffers [rows, columns, 1, 1], one output.

    A custom operation of rank 2 becomes 4-D inside a dynamic model on the GPU plugin and breaks what follows;
    a dynamic one is built again for every shape. Hence static rank 4, and Reshape around the operations.

    Attributes (serialised):
        experts, top_k, max_tokens: Sizes of the block.
        layer: Unique for each block, so that equal operations of two blocks are never merged: each needs its
            own tickets.
        balance: The user's switch, resolved for the device at compile time.
        build: Hash of the kernel sources and configuration, set at compile time, so that a model cache sees
            a changed kernel as a changed model.
    """

    stage: ClassVar[Stage]
    defaults: ClassVar[dict[str, Attribute]] = {}

    def __init__(self, inputs: list[ov.Output] | None = None, **attributes: Attribute) -> None:
        super().__init__(self)
        # One dict for the life of the operation: reading a saved model writes into it.
        self.attributes: dict[str, Attribute] = {
            **_SIZES,
            "layer": "none",
            "balance": "auto",
            "build": "none",
            **self.defaults,
            **attributes,
        }
        if inputs is not None:
            self.set_arguments(inputs)
            self.constructor_validate_and_infer_types()

    def visit_attributes(self, visitor: Any) -> bool:
        """Let OpenVINO read and write the attributes."""
        visitor.on_attributes(self.attributes)
        return True

    def clone_with_new_inputs(self, new_inputs: Any) -> MoEOp:
        """A copy over other inputs, with all attributes."""
        return type(self)(list(new_inputs), **self.attributes)

    def number(self, name: str) -> int:
        """An integer attribute."""
        return int(self.attributes[name])

    @property
    def layout(self) -> PlanLayout:
        """The layout of the plan that this operation writes or reads."""
        return PlanLayout(self.number("experts"), self.number("top_k"), self.number("max_tokens"))

    def output_shape(self) -> list[int]:
        """The static output shape [rows, columns, 1, 1]."""
        raise NotImplementedError

    def output_type(self) -> ov.Type:
        """The output's element type."""
        return self.get_input_element_type(0)

    def check_inputs(self) -> None:
        """Raise InvalidInputError for an input that the kernel cannot read."""
        raise NotImplementedError

    def validate_and_infer_types(self) -> None:
        """Shape inference; raises InvalidInputError with one sentence that names the operation and the input."""
        if self.get_input_size() != self.stage.inputs:
            raise InvalidInputError(f"{self._who()} has {self.get_input_size()} inputs, it takes {self.stage.inputs}.")
        self.check_attributes()
        self.check_inputs()
        self.set_output_type(0, self.output_type(), ov.PartialShape(self.output_shape()))

    def check_attributes(self) -> None:
        """Parse every attribute and keep what it means: the file's own text goes no further.

        Raises InvalidInputError, naming the operation and the attribute.
        """
        try:
            self.attributes.update(parsed(self.attributes))
        except InvalidInputError as error:
            raise InvalidInputError(f"{self.stage.op_type}: {error}") from None

    def check(self, port: int, name: str, shape: list[int], types: tuple[str, ...] = REAL_TYPES) -> None:
        """Check one input's static shape and element type."""
        actual, kind = self.get_input_partial_shape(port), self.get_input_element_type(port).get_type_name()
        if actual.is_dynamic or list(actual.to_shape()) != shape:
            raise InvalidInputError(f"{self._who()}: input {port} ({name}) has shape {actual}, it must be {shape}.")
        if kind not in types:
            raise InvalidInputError(f"{self._who()}: input {port} ({name}) is {kind}, it must be {' or '.join(types)}.")

    def row_columns(self, buffer: str, columns: str) -> int:
        """Columns of a row of ``h`` or ``d``, from the attribute that counts its values."""
        return row_columns(self.number(columns), self.attributes[f"{buffer}_exponents"] == "some")

    def check_plan(self) -> None:
        """Check that input 1 is a plan for this operation's experts, slots and tokens."""
        self.check(1, "plan", [self.layout.size, 1, 1, 1], ("i32",))

    def check_projection(self, name: str, port: int, n: int, k: int) -> None:
        """Check weights [E, N, K], scales and zero points at three ports against the attributes."""
        try:
            parse_projection(self.attributes, name, n, k)
        except InvalidInputError as error:
            raise InvalidInputError(f"{self._who()}: {error}") from None
        experts, group = self.number("experts"), self.number(f"{name}_group")
        precision = str(self.attributes[f"{name}_format"])
        kinds = {"float": REAL_TYPES, "i8": ("i8",)}.get(precision, ("u8",))
        expected = experts * n * (k // 2 if precision in FOUR_BIT else k)
        self._check_count(port, f"{name} weights", expected, kinds)
        groups = experts * n * (k // group) if group else 1
        powers = self.attributes[f"{name}_scale"] == "e8m0"
        self._check_count(port + 1, f"{name} scales", groups, ("u8",) if powers else REAL_TYPES)
        zeros = str(self.attributes[f"{name}_zero"])
        count = -(-groups // 2) if zeros in ("u4", "i4") else groups
        self._check_count(port + 2, f"{name} zero points", count if zeros != "none" else 1, None)

    def check_bias(self, name: str, port: int, count: int) -> None:
        """Check a bias of ``count`` elements, or the one element that stands for none."""
        some = self.attributes[f"{name}_bias"] == "some"
        self._check_count(port, f"{name} bias", count if some else 1, REAL_TYPES)

    def _check_count(self, port: int, name: str, count: int, types: tuple[str, ...] | None) -> None:
        shape, kind = self.get_input_partial_shape(port), self.get_input_element_type(port).get_type_name()
        size = -1 if shape.is_dynamic else math.prod(shape.to_shape())
        if size != count:
            raise InvalidInputError(
                f"{self._who()}: input {port} ({name}) has shape {shape}, it must hold {count} elements."
            )
        if types and kind not in types:
            raise InvalidInputError(f"{self._who()}: input {port} ({name}) is {kind}, it must be {' or '.join(types)}.")

    def _who(self) -> str:
        return f"{self.stage.op_type} of layer {self.attributes['layer']}"

    def has_evaluate(self) -> bool:
        """Every operation can be computed without the GPU plugin."""
        return True

    def evaluate(self, outputs: Any, inputs: Any) -> bool:
        """Compute on the host's OpenCL device, or in NumPy where there is none."""
        outputs[0].shape = ov.Shape(self.output_shape())
        evaluate_stage(self.stage, self.attributes, [tensor.data for tensor in inputs], outputs[0].data)
        return True
