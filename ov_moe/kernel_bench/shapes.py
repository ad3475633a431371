"""MoE layers of published models by name: sizes, layout and activation, and how their weights may be stored."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.formats import FORMATS
from ov_moe.spec import SWIGLU, Activation, GateUpLayout, ProjectionSpec

# Symmetric or not, as OpenVINO's exports store each type.
_ZERO_POINT = {"u4": True, "u8": True}


@dataclass(frozen=True)
class Shape:
    """One MoE layer without its shared experts, which are ordinary matrices.

    Attributes:
        name: What the command line calls it.
        hidden: H.
        intermediate: I of one expert.
        experts: E.
        top_k: Slots of a token.
        layout: Where gate and up stand.
        activation: What stands between the projections.
        bias: Whether the projections have one.
    """

    name: str
    hidden: int
    intermediate: int
    experts: int
    top_k: int
    layout: GateUpLayout = "separate"
    activation: Activation = SWIGLU
    bias: bool = False

    def __post_init__(self) -> None:
        if min(self.hidden, self.intermediate, self.experts, self.top_k) < 1 or self.top_k > self.experts:
            raise InvalidInputError(
                f"shape {self.name}: H {self.hidden}, I {self.intermediate}, {self.experts} experts and top-k "
                f"{self.top_k} must be at least 1, and top-k no more than the experts."
            )
        if self.hidden % 2 or self.intermediate % 2:
            raise InvalidInputError(f"shape {self.name}: H {self.hidden} and I {self.intermediate} must be even.")


_GPT_OSS = Activation(beta=1.702, limit=7.0, up_offset=1.0)
SHAPES = {
    shape.name: shape
    for shape in (
        Shape("qwen3-30b", 2048, 768, 128, 8),
        Shape("gpt-oss-20b", 2880, 2880, 32, 4, "interleaved", _GPT_OSS, bias=True),
        Shape("gpt-oss-120b", 2880, 2880, 128, 4, "interleaved", _GPT_OSS, bias=True),
        Shape("qwen3-235b", 4096, 1536, 128, 8),
        Shape("deepseek-v2-lite", 2048, 1408, 64, 6),
        Shape("qwen3-next", 2048, 512, 512, 10),
        Shape("mixtral-8x7b", 4096, 14336, 8, 2),
        Shape("granite-3.0-1b", 1024, 512, 32, 8, "halves"),
        Shape("deepseek-v3", 7168, 2048, 256, 8),
    )
}


def find_shape(text: str) -> Shape:
    """A shape by name, or one written as H/I/E/k, e.g. ``64/32/8/2``.

    Raises InvalidInputError for anything else.
    """
    if text in SHAPES:
        return SHAPES[text]
    parts = text.split("/")
    if len(parts) == 4 and all(part.isdigit() for part in parts):
        hidden, intermediate, experts, top_k = map(int, parts)
        return Shape(text, hidden, intermediate, experts, top_k)
    raise InvalidInputError(f"shape {text!r} is unknown: use {', '.join(SHAPES)}, or sizes H/I/E/k as in 64/32/8/2.")


def default_group(shape: Shape, precision: str) -> int:
    """Elements that share a scale: 0 for f16 and f32, 32 for f4e2m1, a channel (-1) for 8 bits.

    For 4-bit integers the largest of 128, 64, ... that divides both H and I.
    """
    row = FORMATS[precision]
    if row.scale == "none":
        return 0
    if not row.packed:
        return -1
    sizes = (32,) if row.scale == "e8m0" else (128, 64, 32, 16, 8, 4, 2)
    for size in sizes:
        if shape.hidden % size == 0 and shape.intermediate % size == 0:
            return size
    raise InvalidInputError(
        f"{precision} weights need groups of {sizes[-1]}, which do not divide H {shape.hidden} and "
        f"I {shape.intermediate} of {shape.name}."
    )


def block_spec(shape: Shape, precision: str, room: int, group: int | None = None) -> BlockSpec:
    """The block of a shape in buffers for ``room`` tokens; ``group`` -1 is one scale a channel, None the default.

    Raises InvalidInputError for an unknown precision, or a group that does not fit.
    """
    if precision not in FORMATS:
        raise InvalidInputError(f"precision {precision!r} is unknown: use {', '.join(FORMATS)}.")
    size = default_group(shape, precision) if group is None else group

    def projection(n: int, k: int) -> ProjectionSpec:
        zero_point = _ZERO_POINT.get(precision, False)
        return ProjectionSpec(precision, n, k, k if size == -1 else size, zero_point)

    apart = shape.layout == "separate"
    gate = projection(shape.intermediate, shape.hidden)
    spec = BlockSpec(
        experts=shape.experts,
        top_k=shape.top_k,
        max_tokens=room,
        gate=gate if apart else replace(gate, n=2 * shape.intermediate),
        up=gate if apart else None,
        down=projection(shape.hidden, shape.intermediate),
        layout=shape.layout,
        activation=shape.activation,
        gate_bias=shape.bias,
        down_bias=shape.bias,
    ).kept_in_range()
    spec.attributes()  # names what is wrong with a group
    return spec
