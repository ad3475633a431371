"""What OpenCL shows of itself. Does not import openvino."""

from __future__ import annotations

from typing import Any

from ov_moe.devices.pyopencl_import import import_pyopencl


def listed() -> dict[str, Any]:
    """Every platform with its devices, as what JSON knows, and the ``reason`` where OpenCL lists none.

    Raises ImportError without pyopencl, and pyopencl's own errors where a driver breaks.
    """
    pyopencl = import_pyopencl()
    try:
        platforms = pyopencl.get_platforms()
    except pyopencl.Error as error:
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
                        "gpu": bool(device.type & pyopencl.device_type.GPU),
                    }
                    for device in platform.get_devices()
                ],
            }
            for platform in platforms
        ]
    }
