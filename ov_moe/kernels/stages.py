"""The one list of stages: which sources, which attributes and how many inputs stand behind each operation."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Stage:
    """One operation and its kernel.

    Attributes:
        op_type: Type name of the OpenVINO operation.
        entry: Name of the kernel function.
        sources: Files of ``ov_moe.cl``, in this order; schedule and micro-kernel come between them and ``rest``.
        inputs: Number of inputs; they are the kernel's first arguments, the output is the last.
        attributes: Attributes of the operation that the kernel is built with; the define is the upper case.
        defines: Definitions that are the same for every operation of the stage.
        rest: Files behind a micro-kernel's; none where there is none.
        decode: Whether it serves few tokens, with a kernel configuration and a work size of its own.
    """

    op_type: str
    entry: str
    sources: tuple[str, ...]
    inputs: int
    attributes: tuple[str, ...]
    defines: tuple[tuple[str, str], ...] = ()
    rest: tuple[str, ...] = ()
    decode: bool = False

    @property
    def multiplies(self) -> bool:
        """Whether there is a micro-kernel in it."""
        return bool(self.rest)

    def runs(self, other: Stage) -> bool:
        """Whether both are the same step of a block, for few tokens or many."""
        return self.entry == other.entry


_BLOCK = ("experts", "top_k", "max_tokens")
_SIZES = (*_BLOCK, "hidden", "intermediate")
_ROWS = ("common.cl", "exponents.cl")
_GEMM = (*_ROWS, "weights.cl", "gemm.cl")
_GATE_UP = ("activation.cl", "gate_up.cl")
# What a micro-kernel knows of its stage: matrices that share the rows, the columns of the result, the axis that is
# summed over, and the projection whose format the matrices have.
_PAIR = (("PARTS", "2"), ("GEMM_N", "INTERMEDIATE"), ("GEMM_K", "HIDDEN"), ("WEIGHTS", "GATE"))
_SINGLE = (("PARTS", "1"), ("GEMM_N", "HIDDEN"), ("GEMM_K", "INTERMEDIATE"), ("WEIGHTS", "DOWN"))
# What exponents.cl knows of a stage: the rows that it reads and writes. A task of GateUp stores TILE_N / 2 columns.
_H_OUT = (("IN_EXPONENTS", "none"), ("OUT_EXPONENTS", "H_EXPONENTS"), ("OUT_WIDE", "PLAN_H_WIDE"))
_H_IN = (("IN_EXPONENTS", "H_EXPONENTS"), ("IN_WIDE", "PLAN_H_WIDE"), ("IN_COLUMNS", "INTERMEDIATE"))
_D_OUT = (("OUT_EXPONENTS", "D_EXPONENTS"), ("OUT_WIDE", "PLAN_D_WIDE"))
_D_IN = (("IN_EXPONENTS", "D_EXPONENTS"), ("IN_COLUMNS", "HIDDEN"), ("IN_BLOCK", "TILE_N"))
_ACTIVATION = ("layout", "activation", "beta", "limit", "up_offset")


def _projection(name: str) -> tuple[str, ...]:
    return tuple(f"{name}_{part}" for part in ("format", "scale", "zero", "group"))


ROUTE = Stage("MoERoute", "ov_moe_route", ("common.cl", "route.cl"), 1, _BLOCK)
GATE_UP = Stage(
    "MoEGateUp",
    "ov_moe_gate_up",
    _GEMM,
    8,
    (*_SIZES, *_projection("gate"), *_projection("up"), *_ACTIVATION, "h_exponents"),
    (("GATE_UP_FUSED", "0"), *_PAIR, *_H_OUT),
    _GATE_UP,
)
# Gate and up in one matrix: the GPU plugin refuses one producer on two ports, so it is an operation of its own.
GATE_UP_FUSED = Stage(
    "MoEGateUpFused",
    "ov_moe_gate_up",
    _GEMM,
    6,
    (*_SIZES, *_projection("gate"), "gate_bias", *_ACTIVATION, "h_exponents"),
    (("GATE_UP_FUSED", "1"), *_PAIR, *_H_OUT),
    _GATE_UP,
)
DOWN = Stage(
    "MoEDown",
    "ov_moe_down",
    _GEMM,
    6,
    (*_SIZES, *_projection("down"), "down_bias", "h_exponents", "d_exponents"),
    (*_SINGLE, *_H_IN, ("IN_BLOCK", "(TILE_N / 2)"), *_D_OUT),
    ("down.cl",),
)
COMBINE = Stage("MoECombine", "ov_moe_combine", (*_ROWS, "combine.cl"), 3, (*_BLOCK, "hidden", "d_exponents"), _D_IN)


def for_decode(stage: Stage) -> Stage:
    """The same step for few tokens.

    An operation type of its own: one custom-layer entry, and so one work size, serves every operation of a type.
    """
    return replace(stage, op_type=f"{stage.op_type}Decode", decode=True)


PREFILL_STAGES = (ROUTE, GATE_UP, GATE_UP_FUSED, DOWN, COMBINE)
STAGES = (*PREFILL_STAGES, *map(for_decode, PREFILL_STAGES))
