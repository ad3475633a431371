"""A virtual Intel GPU: the released OpenVINO GPU plugin, run on Intel's OpenCL runtime for CPUs.

It shows what the plugin does (results, program builds, launches, memory, waits), never how fast a GPU would be.
Environment: OV_MOE_VGPU_CACHE names the folder of built programs (empty: none), OV_MOE_VGPU_FAST_BUILD=0 builds the
plugin's own kernels with optimisation too, OV_MOE_VGPU_HOLD_SECONDS delays the fully connected kernels that the plugin
builds in the background (int4 models with 8 experts fail in the plugin when they are ready).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import threading
from pathlib import Path

from ov_moe.config import Config
from ov_moe.devices import intel_cpu_runtime
from ov_moe.errors import DeviceError
from ov_moe.storage.drafts import sweep_files
from ov_moe.storage.places import make_folder, places
from ov_moe.storage.trust import distrust
from ov_moe.virtual_gpu import build, counters
from ov_moe.virtual_gpu.counters import Allocation, Build, Counters, Launch

__all__ = ["Allocation", "Build", "Counters", "Launch", "reset", "running", "snapshot", "start"]

# As binary_cache.c names them; it holds a lock on them.
_DRAFT_OF_A_PROGRAM = re.compile(r"[0-9a-f]{32}\.bin\.[0-9A-Za-z]{6}")

_state: dict[str, ctypes.CDLL] = {}
_starting = threading.Lock()


def start() -> None:
    """Make a virtual GPU visible to OpenVINO in this process; call it before `import openvino`. Twice is once.

    Raises DeviceError when openvino is already imported, off Linux x86-64, when Intel's OpenCL CPU runtime is not
    installed, when no C compiler is found or it fails, and when other users could put code into the cache folder.
    """
    with _starting:
        if not _state:
            _start()


def _start() -> None:
    runtime = intel_cpu_runtime.find()
    if "openvino" in sys.modules or intel_cpu_runtime.mapped_libraries("libopenvino.so"):
        raise DeviceError("The virtual GPU has to start before openvino: call start() before `import openvino`.")
    library = build.library(places(intel_cpu_runtime.cache_folder(), "virtual_gpu"))
    home = library.parents[1]
    drivers = intel_cpu_runtime.icd_folder([home], library.parent.name, library)
    chosen = Config.value_of("vgpu_cache")
    programs = str(home / "programs") if chosen is None else chosen
    if programs:
        programs = _prepare(Path(programs))
    intel_cpu_runtime.preload()
    os.environ["OV_MOE_VGPU_RUNTIME"] = str(runtime.runtime)
    os.environ["OCL_ICD_VENDORS"] = str(drivers)
    # For the C library alone: in os.environ it would look as if the user had set it.
    os.putenv("OV_MOE_VGPU_CACHE", programs)
    try:
        interposer = ctypes.CDLL(str(library))
        # The plugin binds to the first libOpenCL.so.1 in the process.
        loader = ctypes.CDLL(str(runtime.loader), mode=ctypes.RTLD_GLOBAL)
        # It reads the driver file when it is first asked: now, before anybody cleans the cache folder.
        loader.clGetPlatformIDs(0, None, ctypes.byref(ctypes.c_uint()))
    except OSError as error:
        raise DeviceError(f"The virtual GPU did not load: {error}.") from error
    interposer.ov_moe_vgpu_snapshot.restype = ctypes.c_void_p
    interposer.ov_moe_vgpu_free.argtypes = [ctypes.c_void_p]
    interposer.ov_moe_vgpu_free.restype = None
    interposer.ov_moe_vgpu_reset.restype = None
    _state["interposer"] = interposer


def _prepare(programs: Path) -> str:
    """The real path of the folder of built programs; raises DeviceError where others could put theirs there."""
    place = Path(os.path.realpath(programs))
    # Without the folder nothing is kept, and all else works.
    with contextlib.suppress(OSError):
        make_folder(place)
        reason = distrust(place, variable="OV_MOE_CACHE or OV_MOE_VGPU_CACHE")
        if reason:
            raise DeviceError(reason)
        sweep_files(place, _DRAFT_OF_A_PROGRAM)
    return str(place)


def running() -> bool:
    """Whether `start()` has succeeded in this process."""
    return bool(_state)


def _interposer() -> ctypes.CDLL:
    try:
        return _state["interposer"]
    except KeyError:
        raise DeviceError("The virtual GPU is not running in this process; call start() first.") from None


def snapshot() -> Counters:
    """What was counted since the last `reset()`. Raises DeviceError when the virtual GPU is not running."""
    interposer = _interposer()
    text = interposer.ov_moe_vgpu_snapshot()
    try:
        return counters.parse(ctypes.string_at(text))
    finally:
        interposer.ov_moe_vgpu_free(text)


def reset() -> None:
    """Set the counters to zero; bytes that are alive stay counted as such. Raises DeviceError as `snapshot` does."""
    _interposer().ov_moe_vgpu_reset()
