"""Places where writing is hard: small disks, and another user's folders. What root alone can make is skipped aloud."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A disk of so many bytes, mounted at ``place``; needs root."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("mount") else None
    if done is None or done.returncode:
        pytest.skip("a small disk cannot be mounted here: run this test as root, with the right to mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def as_nobody() -> list[str]:
    """What to put before a command that then runs as another user, who may read all and write only its own."""
    right = "+dac_read_search"  # the interpreter may lie in root's home
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command += [f"--inh-caps={right}", f"--ambient-caps={right}"]
    tried = shutil.which("setpriv") and subprocess.run([*command, "true"], capture_output=True, check=False)
    if os.geteuid() != 0 or not tried or tried.returncode:
        pytest.skip("another user needs root and setpriv (util-linux)")
    return command


def as_someone_without_rights() -> list[str]:
    """Before a command: it must not run as root, who may write everywhere."""
    return as_nobody() if os.geteuid() == 0 else []
