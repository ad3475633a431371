"""Reads the projections of experts, whatever holds their weights: matrices of all experts, or one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import openvino as ov

from ov_moe.spec import Activation

from .activation import read_gated
from .not_matched import NotMatched
from .walk import Walk

Weights = TypeVar("Weights")


def read_projection(
    walk: Walk, output: ov.Output, role: str, read: Callable[[ov.Output], Weights]
) -> tuple[ov.Output, Weights]:
    """(input, weights) of a MatMul that transposes its weights and nothing else.

    Args:
        walk: Gathers the MatMul.
        output: What it gives, [..., N].
        role: What the projection stands for, e.g. ``the gate projection of expert 3``.
        read: Reads what feeds its weight input, e.g. ``read_weights``.

    Raises:
        NotMatched: It is no such MatMul, or its weights cannot be read.
    """
    node = walk.enter(output, "MatMul", role)
    attributes = node.get_attributes()
    if attributes["transpose_a"]:
        raise NotMatched("has transpose_a = true", node)
    if not attributes["transpose_b"]:
        raise NotMatched("has transpose_b = false", node)
    return node.input_value(0), read(node.input_value(1))


def read_separate(
    walk: Walk, output: ov.Output, read: Callable[[ov.Output], Weights], whose: str = ""
) -> tuple[ov.Output, tuple[Weights, Weights, Weights], Activation]:
    """(input, weights of gate, up and down, activation) of down(activation(gate(input), up(input))).

    Args:
        walk: Gathers the nodes passed.
        output: What the down projection gives.
        read: As of ``read_projection``.
        whose: Ends the roles, e.g. ``" of expert 3"``.

    Raises:
        NotMatched: Naming the first node that is not part of this form.
    """
    down_in, down = read_projection(walk, output, f"the down projection{whose}", read)
    gated = read_gated(walk, down_in)
    gate_in, gate = read_projection(walk, gated.gate, f"the gate projection{whose}", read)
    up_in, up = read_projection(walk, gated.up, f"the up projection{whose}", read)
    if gate_in != up_in:
        raise NotMatched("multiplies a gate and an up projection of different inputs", down_in.get_node())
    return gate_in, (gate, up, down), gated.activation
