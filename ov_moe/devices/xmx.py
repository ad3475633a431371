"""Matrix units of Intel GPUs, as the GPU plugin's properties show them."""

from __future__ import annotations

import re
from collections.abc import Sequence

XMX = "GPU_HW_MATMUL"
"""The capability that the plugin shows for matrix units."""


def xmx_subgroup(capabilities: Sequence[str], architecture: str) -> int:
    """Work-items of a sub-group that XMX takes: 8 or 16, the device's smallest sub-group; 0 where there is no XMX.

    The extension cl_intel_subgroup_matrix_multiply_accumulate ties its functions to the smallest sub-group of the
    device. That is 8 on Arc (12.55 to 12.57) and Arrow Lake H (12.74), 16 on Ponte Vecchio (12.60, 12.61) and from Xe2
    (20.x) on.

    Args:
        capabilities: OPTIMIZATION_CAPABILITIES of the GPU plugin.
        architecture: GPU_UARCH_VERSION, ``major.minor.revision``.
    """
    found = re.match(r"(\d+)\.(\d+)\.", architecture)
    if XMX not in capabilities or not found:
        return 0
    major, minor = int(found[1]), int(found[2])
    if major == 12:
        return 16 if minor in (60, 61) else 8
    return 16 if major >= 20 else 0


def smallest_subgroup(capabilities: Sequence[str], architecture: str) -> int:
    """Work-items of the smallest sub-group, as far as the two tell it.

    Every Intel GPU has sub-groups of 16; of 8 those have them that lack XMX (Gen9 to Xe-LPG) or whose XMX takes them.
    """
    return (xmx_subgroup(capabilities, architecture) or 16) if XMX in capabilities else 8
