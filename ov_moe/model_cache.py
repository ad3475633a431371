"""OpenVINO's model cache where it is to hold no weights: made to work, or said why it does not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import openvino as ov

from ov_moe.devices.target import Target, in_force
from ov_moe.transformations.cached import bytes_without_place, forget_places, misplaced_conditions

logger = logging.getLogger("ov_moe")
_MODE, _SWITCH = "CACHE_MODE", "ENABLE_WEIGHTLESS"


def make_cacheable(core: ov.Core, model: ov.Model, target: Target, properties: Mapping[str, Any]) -> None:
    """Prepare a rewritten model for a cache without weights, and warn where it will not do what is asked for.

    Args:
        core: The Core that will compile.
        model: The rewritten model.
        target: The device.
        properties: What the model will be compiled with.
    """
    forget_places(misplaced_conditions(model))
    if not without_weights(core, target, properties):
        return
    if not target.gpu:
        logger.warning(
            "CACHE_MODE=OPTIMIZE_SIZE does nothing for an optimised model on the CPU, whose plugin loads no operation "
            "of an extension from such a cache: leave it out, the default mode works."
        )
        return
    held = bytes_without_place(model)
    if held:
        logger.warning(
            "CACHE_MODE=OPTIMIZE_SIZE: the cache will hold %.1f MB of weights all the same, as the model was rewritten "
            "in this process: save it, as ov-moe optimize does, and compile what is read from there.",
            held / 1e6,
        )


def without_weights(core: ov.Core, target: Target, properties: Mapping[str, Any]) -> bool:
    """Whether the properties, or without them the Core's, ask for a cache without weights."""
    mode, switch = (in_force(core, target, properties, key) for key in (_MODE, _SWITCH))
    return "OPTIMIZE_SIZE" in str(getattr(mode, "name", mode)) or str(switch).upper() in ("TRUE", "YES", "1")
