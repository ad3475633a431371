"""The OpenCL loaders of this process, shown a driver by variables that they read once and that no child inherits.

A loader lists the drivers at its first call, so that call is made here. Two may be in the process: the runtime's, which
OpenVINO binds to, and the one inside pyopencl's wheel.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ov_moe.errors import DeviceError

_SYSTEM = Path("/etc/OpenCL/vendors")
_DEVICE_TYPE_GPU, _DEVICE_NAME = 1 << 2, 0x102B


def show(driver: Path, loader: Path | None, *, layer: Path | None = None, beside_others: bool = False) -> None:
    """List platforms once with every loader, so that they know a driver from now on.

    Args:
        driver: Library of the driver, which stands first.
        loader: The loader for all that need libOpenCL.so.1; None = only pyopencl's, where it brings one.
        layer: Library of a layer, before those of OPENCL_LAYERS.
        beside_others: Whether the drivers that the machine has stay visible; a second CPU runtime of Intel's never
            does, for a process can hold one alone.

    Raises:
        DeviceError: ``loader`` cannot be loaded, or the list of drivers cannot be written.
    """
    own = pyopencl_loader()
    try:
        with tempfile.TemporaryDirectory(prefix="ov-moe-icd-") as folder:
            lines = [str(driver), *(_other_drivers() if beside_others else ())]
            for number, line in enumerate(lines):
                (Path(folder) / f"{number:03}.icd").write_text(f"{line}\n", encoding="utf-8")
            variables = {"OCL_ICD_VENDORS": folder}
            if layer is not None:
                variables["OPENCL_LAYERS"] = _before(layer, "OPENCL_LAYERS")
            if loader is not None or own is None:
                # Khronos's loader lists these before a folder's.
                first = {"OCL_ICD_FILENAMES": _before(driver, "OCL_ICD_FILENAMES") if beside_others else str(driver)}
                with _environment({**variables, **first}):
                    _platforms(ctypes.CDLL(str(loader or "libOpenCL.so.1"), mode=ctypes.RTLD_GLOBAL))
            if own is not None:
                # As pyopencl sets it when it is imported; without it its loader crashes.
                home = {"PYOPENCL_HOME": str(own.parent.parent)}
                with contextlib.suppress(OSError), _environment({**variables, **home}):
                    _platforms(ctypes.CDLL(str(own)))
    except OSError as error:
        raise DeviceError(f"OpenCL could not be shown the driver {driver}: {error}.") from error


def pyopencl_loader() -> Path | None:
    """The loader inside pyopencl's wheel; None where pyopencl is missing or takes libOpenCL.so.1."""
    found = importlib.util.find_spec("pyopencl")
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        for place in (Path(folder) / ".libs", Path(folder).with_name("pyopencl.libs")):
            for library in sorted(place.glob("libOpenCL*.so*")):
                return library
    return None


def gpu_names(loader: Path) -> dict[int, list[str]]:
    """Names of the GPUs of each platform, by the platform's address, in the loader's order."""
    library = ctypes.CDLL(str(loader))
    found: dict[int, list[str]] = {}
    for platform in _platforms(library):
        count = ctypes.c_uint(0)
        asked = ctypes.c_void_p(platform), ctypes.c_uint64(_DEVICE_TYPE_GPU)
        library.clGetDeviceIDs(*asked, ctypes.c_uint(0), None, ctypes.byref(count))
        devices = (ctypes.c_void_p * count.value)()
        if count.value:
            library.clGetDeviceIDs(*asked, count, devices, None)
        names = found.setdefault(platform, [])
        for device in filter(None, devices):
            name = ctypes.create_string_buffer(1024)
            size = ctypes.c_size_t(len(name) - 1)
            library.clGetDeviceInfo(ctypes.c_void_p(device), ctypes.c_uint(_DEVICE_NAME), size, name, None)
            names.append(name.value.decode(errors="replace").strip())
    return found


def _platforms(library: ctypes.CDLL) -> list[int]:
    """Addresses of the platforms; lists them where this is the loader's first call."""
    count = ctypes.c_uint(0)
    library.clGetPlatformIDs(ctypes.c_uint(0), None, ctypes.byref(count))
    platforms = (ctypes.c_void_p * count.value)()
    if count.value:
        library.clGetPlatformIDs(count, platforms, None)
    return [platform for platform in platforms if platform]


def _other_drivers() -> Iterator[str]:
    """What the machine's .icd files name: those of OCL_ICD_VENDORS, a folder or a file, else of the system."""
    place = Path(os.environ.get("OCL_ICD_VENDORS") or _SYSTEM)
    if place.is_file() and place.suffix != ".icd":
        yield str(place)
        return
    for file in [place] if place.is_file() else sorted(place.glob("*.icd")):
        with contextlib.suppress(OSError, UnicodeDecodeError):  # one that this user may not read is no driver for them
            line = file.read_text(encoding="utf-8").strip()
            if line and not Path(line).name.startswith("libintelocl.so"):
                yield line


def _before(library: Path, variable: str) -> str:
    return os.pathsep.join(filter(None, (str(library), os.environ.get(variable))))


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
