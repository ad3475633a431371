"""The one list of operations, and their registration with a Core."""

from __future__ import annotations

import openvino as ov

from ov_moe.ops.base import MoEOp
from ov_moe.ops.combine import MoECombine
from ov_moe.ops.down import MoEDown
from ov_moe.ops.gate_up import MoEGateUp, MoEGateUpFused
from ov_moe.ops.route import MoERoute

OPERATIONS: tuple[type[MoEOp], ...] = (MoERoute, MoEGateUp, MoEGateUpFused, MoEDown, MoECombine)


def register(core: ov.Core) -> None:
    """Teach a Core to read models that hold ov-moe's operations; calling it again changes nothing."""
    for operation in OPERATIONS:
        core.add_extension(operation)
