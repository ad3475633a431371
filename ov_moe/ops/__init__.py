"""The custom OpenVINO operations: shape inference, attributes, and ``evaluate`` for devices without the plugin."""

from ov_moe.ops.combine import MoECombine
from ov_moe.ops.down import MoEDown
from ov_moe.ops.gate_up import MoEGateUp, MoEGateUpFused
from ov_moe.ops.registry import OPERATIONS, register
from ov_moe.ops.route import MoERoute

__all__ = ["OPERATIONS", "MoECombine", "MoEDown", "MoEGateUp", "MoEGateUpFused", "MoERoute", "register"]
