"""A whole MoE block as four stages: attributes, buffer shapes, and one run of it on an OpenCL device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.plan import PlanLayout
from ov_moe.spec import ProjectionSpec


def projection_attributes(name: str, spec: ProjectionSpec) -> dict[str, int | str]:
    """The attributes of one projection, e.g. ``gate_format``: tokens that name functions in cl/weights.cl.

    Raises InvalidInputError where a row of 4-bit weights would not start on a byte, or groups do not fill K.
    """
    if spec.group_size and (spec.k % spec.group_size or (spec.group_size % 2 and spec.group_size != spec.k)):
        raise InvalidInputError(
            f"{name}: group size {spec.group_size} must be even and divide K = {spec.k}, or be K itself."
        )
    if spec.precision in ("u4", "i4") and spec.k % 2:
        raise InvalidInputError(f"{name}: rows of {spec.k} 4-bit weights do not fill whole bytes; K must be even.")
    real = spec.precision in ("f16", "f32")
    if real == bool(spec.group_size) or (real and spec.zero_point):
        raise InvalidInputError(
            f"{name}: {spec.precision} weights with group size {spec.group_size} and "
            f"zero_point={spec.zero_point} make no sense: integers have scales, f16 and f32 have none."
        )
    return {
        f"{name}_format": "float" if real else spec.precision,
        f"{name}_scale": "none" if real else "some",
        f"{name}_zero": spec.precision if spec.zero_point else "none",
        f"{name}_group": spec.group_size,
    }


@dataclass(frozen=True)
class BlockSpec:
    """The sizes and weight formats of one MoE block.

    Attributes:
        experts: E.
        top_k: Slots of a token, k.
        max_tokens: TM, the tokens that the buffers have room for.
        gate: [E, I, H].
        up: [E, I, H].
        down: [E, H, I].
    """

    experts: int
    top_k: int
    max_tokens: int
    gate: ProjectionSpec
    up: ProjectionSpec
    down: ProjectionSpec

    def __post_init__(self) -> None:
        i, h = self.gate.n, self.gate.k
        if (self.up.n, self.up.k) != (i, h) or (self.down.n, self.down.k) != (h, i):
            raise InvalidInputError(
                f"gate is {i} x {h}, up {self.up.n} x {self.up.k}, down {self.down.n} x {self.down.k} (N x K): "
                "gate and up must agree and down must be their transpose."
            )

    @property
    def hidden(self) -> int:
        """H."""
        return self.gate.k

    @property
    def intermediate(self) -> int:
        """I."""
        return self.gate.n

    @property
    def layout(self) -> PlanLayout:
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

    def attributes(self) -> Mapping[str, int | str]:
        """Every attribute of every operation of the block; an operation takes those it names."""
        return {
            **self.sizes(),
            **projection_attributes("gate", self.gate),
            **projection_attributes("up", self.up),
            **projection_attributes("down", self.down),
        }
