"""What an OpenVINO device string means for ov-moe: which strings are served, and the device's constants."""

from __future__ import annotations

import re
from dataclasses import dataclass

import openvino as ov

from ov_moe.errors import DeviceError

_GPU = re.compile(r"GPU(\.\d+)?")
_WRAPPED = re.compile(r"(?:AUTO|MULTI):(GPU(?:\.\d+)?)")


@dataclass(frozen=True)
class Target:
    """A device that a rewritten model can be compiled for.

    Attributes:
        name: Plain device name, ``CPU``, ``GPU`` or ``GPU.n``.
        full_name: As the driver tells it.
        compute_units: Execution units of a GPU; 1 for the CPU, whose schedule follows its OpenCL device.
    """

    name: str
    full_name: str
    compute_units: int

    @property
    def gpu(self) -> bool:
        """Whether the GPU plugin runs the model."""
        return self.name != "CPU"


def parse_target(core: ov.Core, device: str) -> Target:
    """Check a device string and read the device's constants.

    HETERO, plain AUTO and the like are refused: they place operations on the CPU without a word.

    Raises:
        DeviceError: The string is not served, or the machine has no such device.
    """
    wrapped = _WRAPPED.fullmatch(device)
    name = wrapped.group(1) if wrapped else device
    if name != "CPU" and not _GPU.fullmatch(name):
        raise DeviceError(
            f"Device {device!r} is not served: use 'GPU', 'GPU.n', 'AUTO:GPU' or 'CPU' "
            "(HETERO and plain AUTO would run MoE blocks on the CPU without saying so)."
        )
    available = core.available_devices
    if name == "CPU":
        return Target(name, str(core.get_property("CPU", "FULL_DEVICE_NAME")), 1)
    if not any(entry == name or entry.startswith(f"{name}.") or f"{entry}.0" == name for entry in available):
        raise DeviceError(
            f"OpenVINO sees no {name} here (only {', '.join(available)}): install the GPU's OpenCL driver, or set "
            "OV_MOE_VIRTUAL_GPU=1 before Python starts to use the virtual GPU."
        )
    units = int(core.get_property(name, "GPU_EXECUTION_UNITS_COUNT"))
    return Target(name, str(core.get_property(name, "FULL_DEVICE_NAME")), max(units, 1))
