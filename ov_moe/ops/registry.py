"""The one list of operations, and their registration with a Core."""

from __future__ import annotations

import openvino as ov

from ov_moe.kernels.stages import Stage
from ov_moe.ops.base import MoEOp
from ov_moe.ops.combine import MoECombine, MoECombineDecode
from ov_moe.ops.down import MoEDown, MoEDownDecode
from ov_moe.ops.gate_up import MoEGateUp, MoEGateUpDecode, MoEGateUpFused, MoEGateUpFusedDecode
from ov_moe.ops.route import MoERoute, MoERouteDecode

OPERATIONS: tuple[type[MoEOp], ...] = (
    MoERoute,
    MoEGateUp,
    MoEGateUpFused,
    MoEDown,
    MoECombine,
    MoERouteDecode,
    MoEGateUpDecode,
    MoEGateUpFusedDecode,
    MoEDownDecode,
    MoECombineDecode,
)
_BY_STAGE = {operation.stage: operation for operation in OPERATIONS}


def operation_of(stage: Stage) -> type[MoEOp]:
    """The operation that stands for a stage."""
    return _BY_STAGE[stage]


def register(core: ov.Core) -> None:
    """Teach a Core to read models that hold ov-moe's operations; calling it again changes nothing."""
    for operation in OPERATIONS:
        core.add_extension(operation)
