"""The one reading of the machine: devices, versions, memory in use, what the virtual GPU counted. Imports openvino."""

from __future__ import annotations

import platform
import sys
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

import numpy as np
import openvino as ov

import ov_moe
from ov_moe import virtual_gpu
from ov_moe.devices import opencl_list
from ov_moe.devices.target import Target, parse_target
from ov_moe.devices.xmx import XMX

_PROPERTIES = (
    "FULL_DEVICE_NAME",
    "DEVICE_ARCHITECTURE",
    "DEVICE_TYPE",
    "GPU_UARCH_VERSION",
    "OPTIMIZATION_CAPABILITIES",
    "INFERENCE_PRECISION_HINT",
    "GPU_EXECUTION_UNITS_COUNT",
    "GPU_DEVICE_TOTAL_MEM_SIZE",
    "GPU_DEVICE_MAX_ALLOC_MEM_SIZE",
)


def peak_rss() -> int | None:
    """The most bytes of memory that this process had resident at once, None where the system does not tell.

    Linux: VmHWM and not getrusage, whose maximum a process inherits from the one that started it.
    """
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next((1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:")), None)
    try:
        import resource
    except ImportError:
        return None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def device_bytes(core: ov.Core, target: Target) -> dict[str, int]:
    """Bytes that the GPU plugin holds now, by kind (``usm_device``, ``usm_host``, ``cl_mem``, ...)."""
    if not target.gpu:
        return {}
    statistics = core.get_property(target.name, "GPU_MEMORY_STATISTICS")
    return {str(kind): int(size) for kind, size in statistics.items() if size}


def builds() -> dict[str, int]:
    """Programs built since the process started, and those with a kernel of ov-moe; empty off the virtual GPU."""
    if not virtual_gpu.running():
        return {}
    counted = virtual_gpu.snapshot()
    return {"all": len(counted.builds), "ours": len(counted.builds_of("ov_moe_"))}


def reset_launches() -> None:
    """Start counting anew on the virtual GPU; nothing elsewhere."""
    if virtual_gpu.running():
        virtual_gpu.reset()


def launches() -> dict[str, int]:
    """Launches and work-groups of ov-moe's kernels since ``reset_launches``; empty off the virtual GPU."""
    if not virtual_gpu.running():
        return {}
    ours = virtual_gpu.snapshot().launches_of("ov_moe_").values()
    return {"launches": sum(each.count for each in ours), "work-groups": sum(each.groups for each in ours)}


def facts(core: ov.Core, target: Target) -> dict[str, Any]:
    """The device, its driver, versions, host and time."""
    found: dict[str, Any] = {
        "time": now(),
        "device": target.name,
        "device_name": target.full_name,
        "virtual_gpu": virtual_gpu.is_named(target.full_name),
        "compute_units": target.compute_units if target.gpu else None,
        "driver": driver(target) if target.gpu else None,
        "xmx": target.gpu and XMX in core.get_property(target.name, "OPTIMIZATION_CAPABILITIES"),
        "host": f"{platform.platform()}, {cpu_name()}",
        "ov_moe": ov_moe.__version__,
        "openvino": ov.get_version(),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    for package in ("openvino_tokenizers", "transformers"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def driver(target: Target) -> str | None:
    """Version of the OpenCL driver behind a GPU, None where OpenCL does not show the device.

    OpenVINO appends (iGPU) or (dGPU) to OpenCL's name of the device.
    """
    try:
        devices = [device for platform in opencl_list.listed()["platforms"] for device in platform["devices"]]
    except Exception:  # a missing or broken driver must not end a measurement
        return None
    names = [device for device in devices if target.full_name.startswith(device["name"])]
    return str(names[0]["driver"]) if names else None


def properties(core: ov.Core, name: str) -> dict[str, Any]:
    """What a device of OpenVINO says of itself, as texts, lists or numbers; of a GPU its ``driver`` too."""
    found: dict[str, Any] = {}
    for key in _PROPERTIES:
        try:
            value = core.get_property(name, key)
        except RuntimeError:  # not a property of this plugin
            continue
        found[key] = value if isinstance(value, int | str | list) else _word(value)
    if name.startswith("GPU"):
        found["driver"] = driver(parse_target(core, name))
    return found


def _word(value: Any) -> str:
    name = getattr(value, "name", None) or getattr(value, "get_type_name", lambda: str(value))()
    return str(name)


def now() -> str:
    """The time, in UTC, in seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
            return next(line.partition(":")[2].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"
