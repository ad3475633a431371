"""What an OpenVINO device string means for ov-moe: which strings are served, and the device's constants."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import openvino as ov

from ov_moe.devices.device_names import plain_name
from ov_moe.devices.xmx import smallest_subgroup, xmx_subgroup
from ov_moe.errors import DeviceError
from ov_moe.spec import Activations, DeviceInfo

_F32 = re.compile(r"\b(f32|float32|float)\b")


@dataclass(frozen=True)
class Target:
    """A device that a rewritten model can be compiled for.

    Attributes:
        name: Plain device name, ``CPU``, ``GPU`` or ``GPU.n``.
        full_name: As the driver tells it.
        compute_units: Execution units of a GPU; 1 for the CPU, whose schedule follows its OpenCL device.
        xmx_subgroup: Work-items of a sub-group that XMX takes, 8 or 16; 0 where there is no XMX.
        subgroup: Work-items of the smallest sub-group.
    """

    name: str
    full_name: str
    compute_units: int
    xmx_subgroup: int = 0
    subgroup: int = 8

    @property
    def info(self) -> DeviceInfo:
        """What the choice of kernels needs."""
        return DeviceInfo(self.compute_units, self.xmx_subgroup, subgroup=self.subgroup)

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
    name = plain_name(device)
    if name is None:
        raise DeviceError(
            f"Device {device!r} is not served: use 'GPU', 'GPU.n', 'AUTO:GPU', 'MULTI:GPU' or 'CPU' "
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
    shown = core.get_property(name, "OPTIMIZATION_CAPABILITIES"), _architecture(core, name)
    full_name = str(core.get_property(name, "FULL_DEVICE_NAME"))
    return Target(name, full_name, max(units, 1), xmx_subgroup(*shown), smallest_subgroup(*shown))


def _architecture(core: ov.Core, name: str) -> str:
    try:
        return str(core.get_property(name, "GPU_UARCH_VERSION"))
    except RuntimeError:  # not a property of this plugin
        return ""


def in_force(core: ov.Core, target: Target, properties: Mapping[str, Any], key: str) -> Any:
    """What a property will be in a compilation: as given for it, else as the Core has it; None where it is unknown."""
    if key in properties:
        return properties[key]
    try:
        return core.get_property(target.name, key)
    except RuntimeError:  # not a property of this plugin
        return None


def activations(core: ov.Core, target: Target, properties: Mapping[str, Any]) -> Activations:
    """The element type that the plugin will most likely give to activations: its hints decide.

    Only the build of a kernel shows it for certain: the kernels are right for the other type too.
    """
    if not target.gpu:
        return "f32"
    hint, mode = (
        in_force(core, target, properties, key) for key in ("INFERENCE_PRECISION_HINT", "EXECUTION_MODE_HINT")
    )
    accurate = "INFERENCE_PRECISION_HINT" not in properties and "ACCURACY" in str(getattr(mode, "name", mode)).upper()
    return "f32" if accurate or _F32.search(str(hint)) else "f16"
