"""Where the demonstration runs: a real GPU where OpenVINO shows one, else the virtual GPU, or the CPU.

The virtual GPU has to start before openvino is imported, and whether it is needed is known only after asking
OpenVINO: so that is asked in a process of its own. This module does not import openvino.
"""

from __future__ import annotations

from dataclasses import dataclass

from ov_moe import children, virtual_gpu
from ov_moe.devices.device_names import plain_name
from ov_moe.errors import OvMoeError

# A driver that crashes must not take this process along, and openvino stays out of it.
_ASK = "ov_moe.devices.gpus:listed"


@dataclass(frozen=True)
class Place:
    """A device and what has to be said about it.

    Attributes:
        device: The OpenVINO device string.
        virtual: Whether a GPU in that string is the virtual GPU.
        why: One sentence for the user, or nothing.
    """

    device: str
    virtual: bool
    why: str = ""


def choose(device: str) -> Place:
    """Decide on a device, and start the virtual GPU where it is that. Call it before openvino is imported.

    Args:
        device: ``auto`` = a real GPU, else the virtual GPU. Any other string is taken as it stands and never
            replaced; its ``GPU`` is the virtual one only where the virtual GPU runs already, which then is GPU.0.

    Raises:
        DeviceError: The virtual GPU is needed and cannot start.
    """
    if device != "auto":
        return Place(device, virtual=virtual_gpu.running() and plain_name(device) in ("GPU", "GPU.0"))
    if virtual_gpu.running():
        why = "The environment asks for the virtual GPU."
    elif real_gpus():
        return Place("GPU", virtual=False)
    else:
        why = "OpenVINO shows no GPU on this machine, so a virtual one takes its place."
    virtual_gpu.start()
    return Place("GPU", virtual=True, why=why)


def real_gpus() -> list[str]:
    """The GPUs that OpenVINO shows, e.g. ``["GPU.0", "GPU.1"]``.

    Raises:
        OvMoeError: OpenVINO cannot be imported, or fails while it looks.
    """
    child = children.call(_ASK, environment={"OV_MOE_VIRTUAL_GPU": "0"})
    if child.status or child.answer is None:
        last = child.said or f"exit status {child.status}"
        raise OvMoeError(f"OpenVINO failed while it looked for GPUs: {last} (--device CPU does without one).")
    gpus: list[str] = child.answer["gpus"]
    return gpus
