"""A virtual Intel GPU: the released OpenVINO GPU plugin, run on Intel's OpenCL runtime for CPUs.

It shows what the plugin does (results, program builds, launches, memory, waits), never how fast a GPU would be.
OpenVINO calls it GPU, or GPU.0; GPUs of the machine come after it. Processes that this one starts see nothing of it.
Environment, read when it starts: OV_MOE_VGPU_CACHE names the folder of built programs (empty: none),
OV_MOE_VGPU_FAST_BUILD=0 builds the plugin's own kernels with optimisation too, OV_MOE_VGPU_HOLD_SECONDS delays the
fully connected kernels that the plugin builds in the background (int4 models with 8 experts fail in the plugin when
they are ready).
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
import sys
import threading
from pathlib import Path

from ov_moe.devices import icd_loaders, intel_cpu_runtime
from ov_moe.errors import DeviceError
from ov_moe.options import Config
from ov_moe.storage.drafts import sweep_files
from ov_moe.storage.places import make_folder, places
from ov_moe.storage.trust import distrust
from ov_moe.virtual_gpu import build, counters
from ov_moe.virtual_gpu.counters import Allocation, Build, Counters, Launch

__all__ = ["Allocation", "Build", "Counters", "Launch", "is_named", "reset", "running", "snapshot", "start"]

_LOG = logging.getLogger("ov_moe")
_NAME = "ov-moe virtual GPU"

# As binary_cache.c names them; it holds a lock on them.
_DRAFT_OF_A_PROGRAM = re.compile(r"[0-9a-f]{32}\.bin\.[0-9A-Za-z]{6}")

_state: dict[str, ctypes.CDLL] = {}
_starting = threading.Lock()


def start() -> None:
    """Make a virtual GPU visible to OpenVINO in this process; call it before `import openvino`. Twice is once.

    Where the machine has a GPU of its own, a warning of the logger ov_moe names it and the places of both.

    Raises DeviceError when openvino is already imported, off Linux x86-64, when Intel's OpenCL CPU runtime is not
    installed, when no C compiler is found or it fails, when other users could put code into the cache folder, and when
    OpenCL is in use already; InvalidInputError when a variable of the virtual GPU holds no value of its option.
    """
    with _starting:
        if not _state:
            _start()


def _start() -> None:
    runtime = intel_cpu_runtime.find()
    if "openvino" in sys.modules or intel_cpu_runtime.mapped_libraries("libopenvino.so"):
        raise DeviceError("The virtual GPU has to start before openvino: call start() before `import openvino`.")
    library = build.library(places(intel_cpu_runtime.cache_folder(), "virtual_gpu"))
    chosen = Config.value_of("vgpu_cache")
    programs = str(library.parents[1] / "programs") if chosen is None else chosen
    if programs:
        programs = _prepare(Path(programs))
    fast_build, hold_seconds = (Config.value_of(name) for name in ("vgpu_fast_build", "vgpu_hold_seconds"))
    intel_cpu_runtime.preload()
    layer = _load(library)
    failure = layer.ov_moe_vgpu_open(os.fsencode(runtime.runtime), os.fsencode(programs), fast_build, hold_seconds)
    if failure is not None:
        raise DeviceError(f"The virtual GPU did not load {runtime.runtime}: {failure.decode(errors='replace')}.")
    # The plugin binds to the first libOpenCL.so.1 in the process.
    icd_loaders.show(runtime.runtime, runtime.loader, layer=library, beside_others=True)
    gpus = icd_loaders.gpu_names(runtime.loader)
    virtual = gpus.pop(layer.ov_moe_vgpu_platform(), [])
    if not layer.ov_moe_vgpu_layers() or not any(name.startswith(_NAME) for name in virtual):
        raise DeviceError(
            f"The OpenCL loader {runtime.loader} took no virtual GPU in: it is in use already, or too old. Call "
            "start() before anything else of this process uses OpenCL."
        )
    real = [name for names in gpus.values() for name in names]
    if real:
        what = "GPUs of the machine come after it where OpenVINO serves them"
        _LOG.warning("The virtual GPU is GPU, or GPU.0, in this process; %s: %s.", what, ", ".join(real))
    _state["layer"] = layer


def _load(library: Path) -> ctypes.CDLL:
    try:
        layer = ctypes.CDLL(str(library))
    except OSError as error:
        raise DeviceError(f"The virtual GPU did not load: {error}.") from error
    layer.ov_moe_vgpu_open.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_bool, ctypes.c_uint]
    layer.ov_moe_vgpu_open.restype = ctypes.c_char_p
    layer.ov_moe_vgpu_platform.restype = ctypes.c_void_p
    layer.ov_moe_vgpu_snapshot.restype = ctypes.c_void_p
    layer.ov_moe_vgpu_free.argtypes = [ctypes.c_void_p]
    layer.ov_moe_vgpu_free.restype = None
    layer.ov_moe_vgpu_reset.restype = None
    return layer


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


def is_named(full_name: str) -> bool:
    """Whether OpenVINO's FULL_DEVICE_NAME of a GPU is that of the virtual one."""
    return full_name.startswith(_NAME)


def _layer() -> ctypes.CDLL:
    try:
        return _state["layer"]
    except KeyError:
        raise DeviceError("The virtual GPU is not running in this process; call start() first.") from None


def snapshot() -> Counters:
    """What was counted since the last `reset()`. Raises DeviceError when the virtual GPU is not running."""
    layer = _layer()
    text = layer.ov_moe_vgpu_snapshot()
    try:
        return counters.parse(ctypes.string_at(text))
    finally:
        layer.ov_moe_vgpu_free(text)


def reset() -> None:
    """Set the counters to zero; bytes that are alive stay counted as such. Raises DeviceError as `snapshot` does."""
    _layer().ov_moe_vgpu_reset()
