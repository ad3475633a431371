"""What the four operations share: attributes that survive cloning and saving, checked inputs, evaluation."""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast, get_args

import openvino as ov

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.attributes import Attribute, parsed
from ov_moe.kernels.block import SMALLEST, BlockSpec
from ov_moe.kernels.formats import FORMATS
from ov_moe.kernels.stages import Stage
from ov_moe.ops.evaluate import evaluate_stage
from ov_moe.spec import Balance, ProjectionSpec

REAL_TYPES = ("f32", "f16")
_UNSET = "none"


class MoEOp(ov.Op):  # type: ignore[misc]  # openvino ships no types
    """Base of the operations: static rank-4 buffers [rows, columns, 1, 1], one output.

    A custom operation of rank 2 becomes 4-D inside a dynamic model on the GPU plugin and breaks what follows;
    a dynamic one is built again for every shape. Hence static rank 4, and Reshape around the operations.

    Attributes (serialised), beside those that ``stage`` names:
        layer: Unique for each block, so that equal operations of two blocks are never merged: each needs its
            own tickets.
        build: What the operation is compiled with, set at compile time, so that a model cache sees a changed kernel
            as a changed model: on a GPU the hash of the kernels' sources and configuration, elsewhere the model's
            ``balance``, which ``evaluate`` follows.
        balance: Only as read from a model that an earlier version saved; today it is the model's, see
            ov_moe.transformations.switches.

    ``block`` is what they mean, as far as this operation's stage goes.
    """

    stage: ClassVar[Stage]
    block: BlockSpec

    def __init__(self, inputs: list[ov.Output] | None = None, **attributes: Attribute) -> None:
        super().__init__(self)
        # One dict for the life of the operation: reading a saved model writes into it, what the file has of the names
        # that stand here, with values of these types.
        self.attributes: dict[str, Attribute] = {
            **{name: SMALLEST[name] for name in self.stage.attributes},
            "layer": _UNSET,
            "build": _UNSET,
            **attributes,
        }
        if inputs is None:
            self.attributes["balance"] = _UNSET
        else:
            self.set_arguments(inputs)
            self.constructor_validate_and_infer_types()

    def visit_attributes(self, visitor: Any) -> bool:
        """Let OpenVINO read and write the attributes."""
        visitor.on_attributes(self.attributes)
        return True

    def clone_with_new_inputs(self, new_inputs: Any) -> MoEOp:
        """A copy over other inputs, with all attributes."""
        return type(self)(list(new_inputs), **self.attributes)

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
        self.check_attributes()
        if self.get_input_size() != self.stage.inputs:
            raise InvalidInputError(f"{self._who()} has {self.get_input_size()} inputs, it takes {self.stage.inputs}.")
        self.check_inputs()
        self.set_output_type(0, self.output_type(), ov.PartialShape(self.output_shape()))

    def check_attributes(self) -> None:
        """Parse every attribute and keep what it means: the file's own text goes no further.

        Raises InvalidInputError, naming the operation and the attribute.
        """
        if self.attributes.get("balance") == _UNSET:
            del self.attributes["balance"]
        try:
            self.attributes.update(parsed(self.attributes))
        except InvalidInputError as error:
            raise InvalidInputError(f"{self.stage.op_type}: {error}") from None
        try:
            self.block = BlockSpec.from_attributes(self.attributes)
        except InvalidInputError as error:
            raise InvalidInputError(f"{self._who()}: {error}") from None

    def check(self, port: int, name: str, shape: list[int], types: tuple[str, ...] = REAL_TYPES) -> None:
        """Check one input's static shape and element type."""
        actual, kind = self.get_input_partial_shape(port), self.get_input_element_type(port).get_type_name()
        if actual.is_dynamic or list(actual.to_shape()) != shape:
            raise InvalidInputError(f"{self._who()}: input {port} ({name}) has shape {actual}, it must be {shape}.")
        if kind not in types:
            raise InvalidInputError(f"{self._who()}: input {port} ({name}) is {kind}, it must be {' or '.join(types)}.")

    def check_plan(self) -> None:
        """Check that input 1 is a plan for this operation's experts, slots and tokens."""
        self.check(1, "plan", [self.block.plan_layout.size, 1, 1, 1], ("i32",))

    def check_projection(self, name: str, port: int, spec: ProjectionSpec) -> None:
        """Check weights [E, N, K], scales and zero points at three ports against their description."""
        rows, row = self.block.experts * spec.n, FORMATS[spec.precision]
        kinds = REAL_TYPES if row.scale == "none" else (row.storage,)
        self._check_count(port, f"{name} weights", rows * (spec.k // 2 if row.packed else spec.k), kinds)
        groups = rows * spec.groups or 1
        self._check_count(port + 1, f"{name} scales", groups, ("u8",) if row.scale == "e8m0" else REAL_TYPES)
        zeros = -(-groups // 2) if row.packed else groups
        self._check_count(port + 2, f"{name} zero points", zeros if spec.zero_point else 1, None)

    def check_bias(self, name: str, port: int, spec: ProjectionSpec, some: bool) -> None:
        """Check a bias [E, N], or the one element that stands for none."""
        self._check_count(port, f"{name} bias", self.block.experts * spec.n if some else 1, REAL_TYPES)

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
        build = self.attributes["build"]
        balance = cast(Balance, build if build in get_args(Balance) else "auto")
        evaluate_stage(self.stage, self.block, [tensor.data for tensor in inputs], outputs[0].data, balance)
        return True
