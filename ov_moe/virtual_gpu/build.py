"""Compile the C sources of the virtual GPU, once for each user, compiler and version of the sources."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ov_moe.errors import DeviceError

SOURCES = Path(__file__).parent
LIBRARY = "libov_moe_virtual_gpu.so"
_FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread")


def compiler() -> list[str]:
    """The command of a C compiler: $CC, cc, gcc, clang, or zig from PyPI. Raises DeviceError when there is none."""
    wanted = shlex.split(os.environ.get("CC", ""))
    if wanted and shutil.which(wanted[0]):
        return wanted
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path:
            return [path]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise DeviceError(
        "The virtual GPU compiles a small C library and found no C compiler ($CC, cc, gcc, clang); "
        "install one, or `pip install ziglang`."
    )


def library(cache: Path) -> Path:
    """Path of the compiled library below `cache`, compiled now if it is not there.

    Raises DeviceError when there is no compiler or it fails.
    """
    command = [*compiler(), *_FLAGS]
    key = hashlib.sha256("\0".join(command).encode())
    sources = sorted(SOURCES.glob("*.c"))
    for file in (*sources, *sorted(SOURCES.glob("*.h"))):
        key.update(file.name.encode() + b"\0" + file.read_bytes())
    version = key.hexdigest()[:16]
    target = cache / version / LIBRARY
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Compiled beside its place and renamed into it: processes that start together each see a whole library.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
            built = Path(folder) / LIBRARY
            run = subprocess.run(
                [*command, f'-DOV_MOE_VGPU_VERSION="{version}"', *map(str, sources), "-o", str(built), "-ldl"],
                capture_output=True,
                text=True,
                check=False,
            )
            if run.returncode:
                raise DeviceError(
                    f"The C library of the virtual GPU did not compile with {shlex.join(command)}: {run.stderr.strip()}"
                )
            built.replace(target)
    except OSError as error:
        raise DeviceError(
            f"The C library of the virtual GPU could not be built in {target.parent}: {error}."
        ) from error
    return target
