"""Intel's OpenCL runtime for CPUs, as pip installs it: found, loaded in order, shown to the ICD loader."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from ov_moe.devices import icd_loaders
from ov_moe.errors import DeviceError
from ov_moe.options import Config

# Name of the library -> the distribution that carries it; the order is the order of loading.
_PRELOADED = {
    "libtbb.so.12": "tbb",
    "libintlc.so.5": "intel-cmplr-lib-rt",
    "libimf.so": "intel-cmplr-lib-rt",
    "libirng.so": "intel-cmplr-lib-rt",
    "libsvml.so": "intel-cmplr-lib-rt",
}
# Of ov_moe.virtual_gpu, which changes what the runtime says of itself.
VIRTUAL_GPU = "libov_moe_virtual_gpu.so"
_RUNTIME = "libintelocl.so"
_LOADER = "libOpenCL.so.1"
_RUNTIME_DISTRIBUTION = "intel-opencl-rt"
# The file of its wheel names a path that is none.
ICD = "ov_moe.icd"


@dataclass(frozen=True)
class Libraries:
    """Real paths: `preloaded` in loading order, the OpenCL runtime, the ICD loader of its wheel."""

    preloaded: tuple[Path, ...]
    runtime: Path
    loader: Path

    @property
    def tbb(self) -> Path:
        """The libtbb.so.12 that the runtime needs."""
        return self.preloaded[0]


@functools.cache
def find() -> Libraries:
    """Locate the libraries through the metadata of the installed distributions.

    Raises DeviceError when a distribution or one of its libraries is missing, or off Linux x86-64.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise DeviceError(
            "Intel's OpenCL CPU runtime is packaged for Linux x86-64 only, "
            f"this is {sys.platform} {platform.machine()}."
        )
    return Libraries(
        preloaded=tuple(_locate(distribution, name) for name, distribution in _PRELOADED.items()),
        runtime=_locate(_RUNTIME_DISTRIBUTION, _RUNTIME),
        loader=_locate(_RUNTIME_DISTRIBUTION, _LOADER),
    )


def _locate(distribution: str, library: str) -> Path:
    try:
        files = importlib.metadata.files(distribution)
    except importlib.metadata.PackageNotFoundError:
        files = None
    for file in files or ():
        if file.name == library:
            path = Path(str(file.locate())).resolve()
            if path.is_file():
                return path
    raise DeviceError(
        f"{library} of the package {distribution} is not installed; `pip install ov-moe[virtual-gpu]` brings it."
    )


def mapped_libraries(name: str) -> tuple[Path, ...]:
    """Files mapped into this process whose name starts with `name`, resolved, without repeats."""
    found: dict[Path, None] = {}
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            _, slash, tail = line.partition("/")
            path = Path(slash + tail.rstrip("\n"))
            if slash and path.name.startswith(name):
                found[path.resolve()] = None
    return tuple(found)


def preload() -> None:
    """Load the libraries that the runtime's own ones need, for all to see.

    Raises DeviceError when one is missing, or when another libtbb.so.12 came first: the dynamic linker keeps
    one library for each soname, and openvino's own copy lacks functions that the runtime calls.
    """
    libraries = find()
    for mapped in mapped_libraries("libtbb.so.12"):
        if not mapped.samefile(libraries.tbb) and not mapped_libraries(_RUNTIME):
            raise DeviceError(
                f"Intel's OpenCL CPU runtime needs {libraries.tbb}, but this process has already loaded "
                f"{mapped} (openvino brings one); load the runtime before `import openvino`."
            )
    for library in libraries.preloaded:
        try:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise DeviceError(f"{library} did not load: {error}.") from error


def cache_folder() -> Path:
    """ov-moe's cache folder, which OV_MOE_CACHE may name; it may not exist yet."""
    return Path(Config.value_of("cache_folder")).absolute()


def use(*, beside_others: bool = False) -> None:
    """Make `pyopencl.get_platforms()` show the CPU runtime: preload, then let the loader list it.

    Call it before OpenCL platforms are first listed, and before `import openvino`. Processes that this one starts see
    the machine as it is. Raises DeviceError as preload does, and where the runtime is the virtual GPU.

    Args:
        beside_others: Whether the drivers that the machine has are shown as well.
    """
    libraries = find()
    if mapped_libraries(VIRTUAL_GPU):
        raise DeviceError(
            "Intel's OpenCL CPU runtime is the virtual GPU in this process: unset OV_MOE_VIRTUAL_GPU to see it as a "
            "CPU."
        )
    preload()
    loader = None if icd_loaders.pyopencl_loader() else libraries.loader
    icd_loaders.show(libraries.runtime, loader, beside_others=beside_others)
