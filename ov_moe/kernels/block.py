"""A whole MoE block as four stages: sizes, formats and buffer shapes, and the attributes that say so, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.attributes import (
    Attribute,
    activation_attributes,
    check_sizes,
    parse_activation,
    parse_projection,
    parsed,
    projection_attributes,
)
from ov_moe.kernels.exponents import may_exceed_f16, row_columns
from ov_moe.kernels.plan import PlanLayout
from ov_moe.kernels.stages import GATE_UP, GATE_UP_FUSED, Stage
from ov_moe.spec import SWIGLU, Activation, GateUpLayout, ProjectionSpec


@dataclass(frozen=True)
class BlockSpec:
    """The sizes and weight formats of one MoE block.

    Attributes:
        experts: E.
        top_k: Slots of a token, k.
        max_tokens: TM, the tokens that the buffers have room for.
        gate: [E, I, H], or [E, 2I, H] and both projections where ``layout`` is not ``separate``.
        up: [E, I, H]; None where it stands inside ``gate``.
        down: [E, H, I].
        layout: Where the rows of gate and up stand.
        activation: What stands between the projections.
        gate_bias: Whether 2I values are added for each expert (only where the layout is not ``separate``).
        down_bias: Whether H values are added for each expert.
        h_exponents: Whether rows of h in f16 have exponents: see ov_moe.kernels.exponents.
        d_exponents: The same of d.
    """

    experts: int
    top_k: int
    max_tokens: int
    gate: ProjectionSpec
    up: ProjectionSpec | None
    down: ProjectionSpec
    layout: GateUpLayout = "separate"
    activation: Activation = SWIGLU
    gate_bias: bool = False
    down_bias: bool = False
    h_exponents: bool = False
    d_exponents: bool = False

    def __post_init__(self) -> None:
        if (self.up is None) == (self.layout == "separate") or (self.up is not None and self.gate_bias):
            raise InvalidInputError(
                f"layout {self.layout!r} with {'no' if self.up is None else 'an'} up projection"
                f"{' and a gate bias' if self.gate_bias else ''}: gate and up are separate and without bias, or one "
                "matrix holds both."
            )
        i, h = self.intermediate, self.hidden
        up = self.up or ProjectionSpec("f32", i, h)
        if self.up is None and self.gate.n % 2:
            raise InvalidInputError(f"gate and up together have {self.gate.n} rows, which must be even.")
        if (up.n, up.k) != (i, h) or (self.down.n, self.down.k) != (h, i):
            raise InvalidInputError(
                f"gate is {i} x {h}, up {up.n} x {up.k}, down {self.down.n} x {self.down.k} (N x K): "
                "gate and up must agree and down must be their transpose."
            )
        check_sizes(self.sizes())

    @property
    def hidden(self) -> int:
        """H."""
        return self.gate.k

    @property
    def intermediate(self) -> int:
        """I."""
        return self.gate.n if self.up is not None else self.gate.n // 2

    @property
    def gate_up_stage(self) -> Stage:
        """The stage that computes both projections."""
        return GATE_UP if self.up is not None else GATE_UP_FUSED

    def kept_in_range(self) -> BlockSpec:
        """The same block with exponents for the rows that may be beyond f16: of d always, of h unless it is clamped."""
        return replace(self, h_exponents=may_exceed_f16(self.activation), d_exponents=True)

    @property
    def h_columns(self) -> int:
        """Columns of a row of h."""
        return row_columns(self.intermediate, self.h_exponents)

    @property
    def d_columns(self) -> int:
        """Columns of a row of d."""
        return row_columns(self.hidden, self.d_exponents)

    @property
    def plan_layout(self) -> PlanLayout:
        """The layout of this block's plan."""
        return PlanLayout(self.experts, self.top_k, self.max_tokens)

    def sizes(self) -> dict[str, int]:
        """The size attributes that operations of this block carry."""
        return {
            "experts": self.experts,
            "top_k": self.top_k,
            "max_tokens": self.max_tokens,
            "hidden": self.hidden,
            "intermediate": self.intermediate,
        }

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, object]) -> BlockSpec:
        """The block that attributes speak of: the inverse of ``attributes``, but that weights in f16 are f32 here.

        Args:
            attributes: Of one operation, or of several of the same block together, as a file or a caller gives them.
                What they do not name is as in ``SMALLEST``; what is not of a block, as ``layer``, is checked alone.

        Raises:
            InvalidInputError: A value is none of its attribute's, or they do not fit each other; the sentence names it.
        """
        found = {**SMALLEST, **parsed(attributes)}
        i, h = int(found["intermediate"]), int(found["hidden"])
        fused = "gate_format" in attributes and "up_format" not in attributes
        return cls(
            experts=int(found["experts"]),
            top_k=int(found["top_k"]),
            max_tokens=int(found["max_tokens"]),
            gate=parse_projection(found, "gate", 2 * i if fused else i, h),
            up=None if fused else parse_projection(found, "up", i, h),
            down=parse_projection(found, "down", h, i),
            layout=cast(GateUpLayout, found["layout"]),
            activation=parse_activation(found),
            gate_bias=found["gate_bias"] == "some",
            down_bias=found["down_bias"] == "some",
            h_exponents=found["h_exponents"] == "some",
            d_exponents=found["d_exponents"] == "some",
        )

    def attributes(self) -> Mapping[str, Attribute]:
        """Every attribute of every operation of the block; an operation takes those it names."""
        attributes = {
            **self.sizes(),
            **projection_attributes("gate", self.gate),
            **(projection_attributes("up", self.up) if self.up is not None else {}),
            **projection_attributes("down", self.down),
            "gate_bias": "some" if self.gate_bias else "none",
            "down_bias": "some" if self.down_bias else "none",
            "h_exponents": "some" if self.h_exponents else "none",
            "d_exponents": "some" if self.d_exponents else "none",
            "layout": self.layout,
            **activation_attributes(self.activation),
        }
        return parsed(attributes)


_ONE = ProjectionSpec("f32", 1, 1)
SMALLEST = BlockSpec(1, 1, 1, _ONE, _ONE, _ONE).attributes()
"""What stands for an attribute that is not named: sizes of 1, weights in f32, no bias, no exponents."""
