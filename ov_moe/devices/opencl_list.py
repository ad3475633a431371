"""What OpenCL shows: its devices to run kernels on, or what it says of them. Does not import openvino."""

from __future__ import annotations

from typing import Any

from ov_moe.devices.pyopencl_import import import_pyopencl
from ov_moe.errors import DeviceError


def pyopencl() -> Any:
    """The module; raises DeviceError where it cannot be imported."""
    try:
        return import_pyopencl()
    except ImportError as error:
        raise DeviceError(f"pyopencl cannot be imported ({error}): install it with `pip install pyopencl`.") from error


def devices(cl: Any) -> list[Any]:
    """Every device of every platform, as objects of the module pyopencl; raises DeviceError where OpenCL fails."""
    try:
        return [device for platform in cl.get_platforms() for device in platform.get_devices()]
    except cl.Error as error:
        raise DeviceError(f"No OpenCL platform was found ({error}): install a driver with an ICD file.") from error


def listed() -> dict[str, Any]:
    """Every platform with its devices, as what JSON knows, and the ``reason`` where OpenCL lists none.

    Raises ImportError without pyopencl, and pyopencl's own errors where a driver breaks.
    """
    cl = import_pyopencl()
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        return {"platforms": [], "reason": str(error)}
    return {
        "platforms": [
            {
                "name": platform.name.strip(),
                "version": platform.version.strip(),
                "devices": [
                    {
                        "name": device.name.strip(),
                        "driver": device.driver_version,
                        "compute_units": device.max_compute_units,
                        "gpu": bool(device.type & cl.device_type.GPU),
                    }
                    for device in platform.get_devices()
                ],
            }
            for platform in platforms
        ]
    }
