"""The activations that may stand between the projections, one row each.

A new one is a row here, its function ``act_NAME`` in cl/activation.cl, and its formula in ov_moe/reference.py: the
oracle does not import this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ov_moe.spec import ActivationKind

# Of swish with a slope of 1 and of gelu, in magnitude, below zero: 0.2785 and 0.17.
_LOWEST = 0.2785


@dataclass(frozen=True)
class ActivationForm:
    """One row: act of h = act(gate) * (up + offset).

    Attributes:
        name: The attribute's word.
        written: Each way in which graphs write it: the nodes from the product's operand back to gate, e.g.
            ``("Power 2", "Relu")``. A word is a type, and behind it the mode of a Gelu or the one constant number that
            is the second input. A Swish may have a beta beside.
        largest: (limit, beta) -> the largest magnitude of act(gate) for gates up to ``limit``, at least.
    """

    name: ActivationKind
    written: tuple[tuple[str, ...], ...]
    largest: Callable[[float, float], float]


ACTIVATIONS: dict[ActivationKind, ActivationForm] = {
    row.name: row
    for row in (
        ActivationForm(
            "swiglu",
            (("Swish",),),
            lambda limit, beta: max(limit, _LOWEST / beta) if beta > 0 else math.inf,
        ),
        ActivationForm("geglu_tanh", (("Gelu TANH",),), lambda limit, beta: max(limit, _LOWEST)),
        # Gelu of opset 2 has no mode and is exact.
        ActivationForm("geglu_erf", (("Gelu ERF",), ("Gelu",)), lambda limit, beta: max(limit, _LOWEST)),
        ActivationForm("reglu", (("Relu",),), lambda limit, beta: limit),
    )
}
