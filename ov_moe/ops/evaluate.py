"""Computes a stage on the host: with the kernels where OpenCL shows a device, else in NumPy."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ov_moe import reference
from ov_moe.devices.opencl import OpenCLDevice, default_device
from ov_moe.errors import DeviceError
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.choose import choose_config, decode_config
from ov_moe.kernels.exponents import told_to_look
from ov_moe.kernels.stages import ROUTE, Stage
from ov_moe.ops import numpy_stages
from ov_moe.options import Config
from ov_moe.spec import Balance

logger = logging.getLogger("ov_moe")
EVALUATE_VARIABLE = "OV_MOE_EVALUATE"


@functools.cache
def evaluation_device() -> OpenCLDevice | None:
    """The OpenCL device that ``evaluate`` uses, or None for NumPy.

    OV_MOE_EVALUATE = ``opencl`` or ``numpy`` decides; without it, OpenCL where there is a device.

    Raises:
        DeviceError: ``opencl`` was asked for and there is no device.
        InvalidInputError: The variable holds another word.
    """
    wish = Config.value_of("evaluate")
    if wish == "numpy":
        return None
    try:
        return _with_halves(default_device())
    except DeviceError as error:
        if wish == "opencl":
            raise DeviceError(f"{EVALUATE_VARIABLE} is 'opencl', and there is no such device: {error}") from error
        logger.warning("MoE blocks on the CPU are computed in NumPy: %s", error)
        return None


def _with_halves(device: OpenCLDevice) -> OpenCLDevice:
    if "cl_khr_fp16" not in device.device.extensions.split():
        raise DeviceError(f"OpenCL's {device.name} has no f16 (cl_khr_fp16), which the kernels need.")
    return device


def evaluate_stage(
    stage: Stage,
    block: BlockSpec,
    inputs: Sequence[npt.NDArray[Any]],
    output: npt.NDArray[Any],
    balance: Balance = "auto",
) -> None:
    """Compute one stage of a block into ``output``; raises InvalidInputError for ids out of range."""
    if stage.runs(ROUTE):
        ids = inputs[0].reshape(inputs[0].shape[:2])
        reference.check_ids(cast("npt.NDArray[np.integer]", ids), block.experts)
    device = evaluation_device()
    groups = device.pool_groups if device else 1
    config = decode_config(groups) if stage.decode else choose_config(balance, block.experts, 1, groups=groups)
    if device:
        if not stage.runs(ROUTE) and inputs[0].dtype == np.float16:
            # What a kernel wrote into its copy of the plan is gone.
            inputs = [inputs[0], told_to_look(inputs[1]), *inputs[2:]]
        device.run(stage, config, block.attributes(), inputs, output)
    else:
        numpy_stages.STAGES[stage.entry](block, inputs, output, config)
