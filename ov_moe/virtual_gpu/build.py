"""Compile the C sources of the virtual GPU, once for each user, compiler and version of the sources."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ov_moe.devices.intel_cpu_runtime import VIRTUAL_GPU
from ov_moe.errors import DeviceError
from ov_moe.storage.drafts import replacing, sweep
from ov_moe.storage.places import FOLDER_MODE, make_folder
from ov_moe.storage.trust import distrust, own_or_root

SOURCES = Path(__file__).parent
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


def library(folders: Sequence[Path]) -> Path:
    """Path of the compiled library, compiled now if it is not there.

    Args:
        folders: Where it may be kept; the first that serves is taken. What another user has compiled never is.

    Raises DeviceError when there is no compiler or it fails, when the library cannot be written, or when other users
    could replace it.
    """
    command = [*compiler(), *_FLAGS]
    key = hashlib.sha256("\0".join(command).encode())
    for file in (*sorted(SOURCES.glob("*.c")), *sorted(SOURCES.glob("*.h"))):
        key.update(file.name.encode() + b"\0" + file.read_bytes())
    version = key.hexdigest()[:16]
    failed: OSError | None = None
    for folder in folders:
        target = folder / version / VIRTUAL_GPU
        try:
            if folder.exists() and not own_or_root(folder):
                raise PermissionError(errno.EACCES, "it belongs to another user", str(folder))
            sweep(folder)
            if not target.is_file():
                make_folder(target.parent)
                _refuse(target.parent)
                _build(command, version, folder, target)
            _refuse(target)
        except OSError as error:
            failed = failed or error
            continue
        return target
    raise DeviceError(
        f"The C library of the virtual GPU could not be built in {folders[0]} ({failed}): let OV_MOE_CACHE name a "
        "folder that can be written."
    ) from failed


def _refuse(path: Path) -> None:
    reason = distrust(path)
    if reason:
        raise DeviceError(reason)


def _build(command: list[str], version: str, folder: Path, target: Path) -> None:
    # Compiled beside its place and renamed into it: processes that start together each see a whole library.
    with replacing() as new_draft:
        made = new_draft(target, beside=folder)
        sources = sorted(map(str, SOURCES.glob("*.c")))
        run = subprocess.run(
            [*command, f'-DOV_MOE_VGPU_VERSION="{version}"', *sources, "-o", str(made.new), "-ldl"],
            # The compiler's temporary files go with the draft as well, where it is killed.
            env={**os.environ, "TMPDIR": str(made.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise DeviceError(
                f"The C library of the virtual GPU did not compile with {shlex.join(command)}: {run.stderr.strip()}"
            )
        made.new.chmod(FOLDER_MODE)
