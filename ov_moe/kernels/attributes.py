"""The attributes of the operations, both ways: words for a description, and every word of a file read back and checked.

A saved IR may come from anybody, and attributes become definitions of an OpenCL program. So each is parsed into its
type (a word of a list, a finite number, a bounded whole number), and what a program gets is written anew from that:
no text of a file ever reaches a compiler.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import cast, get_args

import numpy as np

from ov_moe.arguments import check_word, shown
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.activations import ACTIVATIONS
from ov_moe.kernels.formats import FORMATS, INTEGERS
from ov_moe.spec import Activation, ActivationKind, Balance, GateUpLayout, ProjectionSpec

Attribute = int | str

NO_LIMIT = "INFINITY"
PROJECTIONS = ("gate", "up", "down")

_SOME = ("none", "some")
_WORDS: dict[str, tuple[str, ...]] = {
    "balance": get_args(Balance),
    "layout": get_args(GateUpLayout),
    "activation": tuple(ACTIVATIONS),
    "gate_bias": _SOME,
    "down_bias": _SOME,
    "h_exponents": _SOME,
    "d_exponents": _SOME,
    **{f"{name}_format": tuple(dict.fromkeys(row.word for row in FORMATS.values())) for name in PROJECTIONS},
    **{f"{name}_scale": tuple(dict.fromkeys(row.scale for row in FORMATS.values())) for name in PROJECTIONS},
    **{f"{name}_zero": ("none", *INTEGERS) for name in PROJECTIONS},
}
# Far above any model: with them no product of sizes in a kernel's 32-bit arithmetic overflows, see check_sizes.
_WHOLE: dict[str, tuple[int, int]] = {
    "experts": (1, 2**16),
    "top_k": (1, 2**10),
    "max_tokens": (1, 2**24),
    "hidden": (1, 2**20),
    "intermediate": (1, 2**20),
    **{f"{name}_group": (0, 2**20) for name in PROJECTIONS},
}
_NUMBERS = ("beta", "limit", "up_offset")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?f?", re.IGNORECASE | re.ASCII)
_BUILD = re.compile("|".join(["none", *get_args(Balance), "[0-9a-f]{16}"]), re.ASCII)
_LONGEST_NAME = 4096
_MOST_ELEMENTS = 2**38  # rows times columns of a buffer
MOST_OF_Y = 2**32  # elements, which Combine counts in 32 bits


def exact_float(value: float | None) -> str:
    """An OpenCL literal of exactly the fp32 value; None is infinity.

    A string, because the GPU plugin prints attributes of type double with six decimals.
    """
    if value is None or math.isinf(value):
        return NO_LIMIT
    return f"{float(np.float32(value))!r}f"


def parse_float(name: str, value: object) -> float | None:
    """The fp32 value of what ``exact_float`` wrote; None for infinity, which only ``limit`` may be.

    Raises InvalidInputError for anything else: no number, not finite, a limit below zero.
    """
    text = str(value)
    if name == "limit" and text == NO_LIMIT:
        return None
    with np.errstate(over="ignore"):
        number = float(np.float32(text.rstrip("fF"))) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number) or (name == "limit" and number < 0):
        wanted = f"a number from 0 up, or {NO_LIMIT}" if name == "limit" else "a finite number"
        raise InvalidInputError(f"{name} is {shown(value)}, it must be {wanted} as in 1.5f.")
    return number


def parsed(attributes: Mapping[str, object]) -> dict[str, Attribute]:
    """Every attribute in the one form in which ov-moe writes it.

    Args:
        attributes: Some attributes of an operation, as a file or a caller gives them.

    Raises:
        InvalidInputError: A value is none of its attribute's, or there is no such attribute; the sentence names it.
    """
    found = {name: _parse(name, value) for name, value in attributes.items()}
    check_sizes(found)
    return found


def _parse(name: str, value: object) -> Attribute:
    if name in _WORDS:
        check_word(name, value, _WORDS[name])
        return str(value)
    if name in _WHOLE:
        low, high = _WHOLE[name]
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
            raise InvalidInputError(f"{name} is {shown(value)}, it must be a whole number from {low} to {high}.")
        return int(value)
    if name in _NUMBERS:
        return exact_float(parse_float(name, value))
    if name == "build":
        if not _BUILD.fullmatch(str(value)):
            raise InvalidInputError(f"build is {shown(value)}, it must be 'none', 16 hex digits or a balance.")
        return str(value)
    if name == "layer":
        check_layer_name(str(value))
        return str(value)
    raise InvalidInputError(f"{shown(name)} is no attribute of ov-moe's operations.")


def check_sizes(attributes: Mapping[str, Attribute]) -> None:
    """Raise InvalidInputError for a block whose buffers no device has room for and no kernel could count."""
    tokens, slots = int(attributes.get("max_tokens", 1)), int(attributes.get("top_k", 1))
    hidden, intermediate = int(attributes.get("hidden", 1)), int(attributes.get("intermediate", 1))
    elements = tokens * slots * max(hidden, 2 * intermediate)
    if elements > _MOST_ELEMENTS:
        raise InvalidInputError(
            f"{tokens} tokens x {slots} experts a token x {max(hidden, 2 * intermediate)} columns are buffers of "
            f"{elements:.2g} elements, more than the kernels can count: lower max_tokens."
        )


def check_layer_name(name: str) -> None:
    """Raise InvalidInputError for a layer's name that would not stay within a line, as in a comment of a program."""
    if not name.isprintable() or len(name) > _LONGEST_NAME:
        raise InvalidInputError(
            f"The layer name {shown(name)} holds a control character or is longer than {_LONGEST_NAME} characters, "
            "and the GPU plugin writes names into programs: rename the layer, or optimize the original model again."
        )


def layer_name(name: str) -> str:
    """A name that ``check_layer_name`` accepts, the same where it does so already."""
    shown = "".join(character if character.isprintable() else "_" for character in name)
    return shown[: _LONGEST_NAME // 2]  # what is made of it is longer


def parse_projection(attributes: Mapping[str, Attribute], name: str, n: int, k: int) -> ProjectionSpec:
    """How the weights [E, N, K] of a projection are stored: the inverse of ``projection_attributes``.

    f16 and f32 weights share their word: both are f32 here.

    Raises:
        InvalidInputError: The attributes do not fit each other or the sizes.
    """
    kind, group = str(attributes[f"{name}_format"]), int(attributes[f"{name}_group"])
    precision = "f32" if kind == "float" else kind
    spec = ProjectionSpec(precision, n, k, group, attributes[f"{name}_zero"] != "none")
    for attribute, value in projection_attributes(name, spec).items():
        if attributes[attribute] != value:
            raise InvalidInputError(
                f"{attribute} is {shown(attributes[attribute])}, and {kind} weights with {name}_group {group} have "
                f"{value!r}."
            )
    return spec


def projection_attributes(name: str, spec: ProjectionSpec) -> dict[str, Attribute]:
    """The attributes of one projection, e.g. ``gate_format``: tokens that name functions in cl/weights.cl.

    Raises InvalidInputError where a row of 4-bit weights would not start on a byte, or groups do not fill K.
    """
    if spec.group_size and (spec.k % spec.group_size or (spec.group_size % 2 and spec.group_size != spec.k)):
        raise InvalidInputError(
            f"{name}: group size {spec.group_size} must be even and divide K = {spec.k}, or be K itself."
        )
    row = FORMATS[spec.precision]
    if row.packed and spec.k % 2:
        raise InvalidInputError(f"{name}: rows of {spec.k} 4-bit weights do not fill whole bytes; K must be even.")
    real = row.scale == "none"
    if real == bool(spec.group_size) or (real and spec.zero_point):
        raise InvalidInputError(
            f"{name}: {spec.precision} weights with group size {spec.group_size} and "
            f"zero_point={spec.zero_point} make no sense: integers have scales, f16 and f32 have none."
        )
    if spec.zero_point and not row.zero_point:
        raise InvalidInputError(f"{name}: {spec.precision} weights have a sign of their own and no zero point.")
    return {
        f"{name}_format": row.word,
        f"{name}_scale": row.scale,
        f"{name}_zero": spec.precision if spec.zero_point else "none",
        f"{name}_group": spec.group_size,
    }


def activation_attributes(activation: Activation) -> dict[str, Attribute]:
    """The attributes of what stands between the projections."""
    return {
        "activation": activation.kind,
        "beta": exact_float(activation.beta),
        "limit": exact_float(activation.limit),
        "up_offset": exact_float(activation.up_offset),
    }


def parse_activation(attributes: Mapping[str, Attribute]) -> Activation:
    """The inverse of ``activation_attributes``; raises InvalidInputError for a value that none of them has."""
    kind = attributes["activation"]
    check_word("activation", kind, tuple(ACTIVATIONS))
    beta, limit, offset = (parse_float(name, attributes[name]) for name in _NUMBERS)
    return Activation(cast(ActivationKind, kind), cast(float, beta), limit, cast(float, offset))
