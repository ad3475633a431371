"""The custom OpenVINO operations: shape inference, attributes, and ``evaluate`` where the GPU plugin is not."""

from ov_moe.ops.combine import MoECombine
from ov_moe.ops.down import MoEDown
from ov_moe.ops.gate_up import MoEGateUp, MoEGateUpFused
from ov_moe.ops.registry import OPERATIONS, operation_of, register
from ov_moe.ops.route import MoERoute

__all__ = [
    "OPERATIONS",
    "MoECombine",
    "MoEDown",
    "MoEGateUp",
    "MoEGateUpFused",
    "MoERoute",
    "operation_of",
    "register",
]
