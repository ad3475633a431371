"""Properties of the GPU plugin that only its own MoE operation reads: for a rewritten block they do nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import openvino as ov

from ov_moe.devices.target import Target, in_force

logger = logging.getLogger("ov_moe")

# Percent of the experts' weights that the plugin reads from the .bin when they are needed; 0, its default, is none.
# The other properties of its MoE operation (GPU_MOE_...) are debug options, which released plugins refuse.
OFFLOAD_RATIO = "OFFLOAD_RATIO"


def warn_of_own_moe(core: ov.Core, target: Target, properties: Mapping[str, Any]) -> None:
    """Say on the logger ``ov_moe`` that a share of weights to offload is not for the blocks that ov-moe rewrote.

    Args:
        core: Where the property may have been set for the device.
        target: A plugin that does not know the property refuses it itself.
        properties: Of the compilation; they come before those of the Core.
    """
    if not target.gpu:
        return
    ratio = in_force(core, target, properties, OFFLOAD_RATIO)
    if ratio is not None and str(ratio) != "0":
        logger.warning(
            "OFFLOAD_RATIO is %s, and only the GPU plugin's own MoE operation reads it: the blocks that ov-moe rewrote "
            "keep all their weights in the device's memory, so leave it out, or compile the original model.",
            ratio,
        )
