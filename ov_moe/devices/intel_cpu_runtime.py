"""Intel's OpenCL runtime for CPUs, as pip installs it: found, loaded in order, shown to the ICD loader."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ov_moe.config import Config
from ov_moe.errors import DeviceError
from ov_moe.storage.kept import kept
from ov_moe.storage.places import places

# Name of the library -> the distribution that carries it; the order is the order of loading.
_PRELOADED = {
    "libtbb.so.12": "tbb",
    "libintlc.so.5": "intel-cmplr-lib-rt",
    "libimf.so": "intel-cmplr-lib-rt",
    "libirng.so": "intel-cmplr-lib-rt",
    "libsvml.so": "intel-cmplr-lib-rt",
}
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


def icd_folder(folders: Iterable[Path], name: str, library: Path) -> Path:
    """A sub-folder with an .icd file that names `library`, for OCL_ICD_VENDORS.

    Args:
        folders: Where the sub-folder may be; the first that serves is taken.
        name: Of the sub-folder.
        library: The OpenCL driver.

    Raises DeviceError when the file cannot be written, or others could write to it.
    """
    folders = tuple(folders)
    try:
        return kept(folders, name, {ICD: f"{library}\n".encode()})
    except OSError as error:
        raise DeviceError(
            f"The OpenCL driver file {folders[0] / name / ICD} could not be written ({error.strerror or error}): let "
            "OV_MOE_CACHE name a folder that can."
        ) from error


def cache_folder() -> Path:
    """ov-moe's cache folder, which OV_MOE_CACHE may name; it may not exist yet."""
    return Path(Config.value_of("cache_folder")).absolute()


def use() -> None:
    """Make `pyopencl.get_platforms()` show the CPU runtime: preload, then set OCL_ICD_VENDORS.

    Call it before OpenCL platforms are first listed, and before `import openvino`. Raises DeviceError as
    preload does.
    """
    preload()
    runtime = find().runtime
    name = hashlib.sha256(str(runtime).encode()).hexdigest()[:16]
    os.environ["OCL_ICD_VENDORS"] = str(icd_folder(places(cache_folder(), "icd"), name, runtime))
