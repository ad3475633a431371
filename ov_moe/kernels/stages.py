"""The one list of stages: which sources, which attributes and how many inputs stand behind each operation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One operation and its kernel.

    Attributes:
        op_type: Type name of the OpenVINO operation.
        entry: Name of the kernel function.
        sources: Files of ``ov_moe.cl``, joined in this order.
        inputs: Number of inputs; they are the kernel's first arguments, the output is the last.
        attributes: Attributes of the operation that the kernel is built with; the define is the upper case.
    """

    op_type: str
    entry: str
    sources: tuple[str, ...]
    inputs: int
    attributes: tuple[str, ...]


_BLOCK = ("experts", "top_k", "max_tokens")
_GEMM = ("common.cl", "schedule.cl", "weights.cl", "tile_fma.cl")


def _projection(name: str) -> tuple[str, ...]:
    return tuple(f"{name}_{part}" for part in ("format", "scale", "zero", "group"))


ROUTE = Stage("MoERoute", "ov_moe_route", ("common.cl", "route.cl"), 1, _BLOCK)
GATE_UP = Stage(
    "MoEGateUp",
    "ov_moe_gate_up",
    (*_GEMM, "gate_up.cl"),
    8,
    (*_BLOCK, "hidden", "intermediate", *_projection("gate"), *_projection("up")),
)
DOWN = Stage(
    "MoEDown",
    "ov_moe_down",
    (*_GEMM, "down.cl"),
    5,
    (*_BLOCK, "hidden", "intermediate", *_projection("down")),
)
COMBINE = Stage("MoECombine", "ov_moe_combine", ("common.cl", "combine.cl"), 3, (*_BLOCK, "hidden"))

STAGES = (ROUTE, GATE_UP, DOWN, COMBINE)
