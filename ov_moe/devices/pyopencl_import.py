"""Imports pyopencl without the caches that it keeps in the user's home."""

from __future__ import annotations

import importlib
import os
from typing import Any

_SWITCH = "PYOPENCL_NO_CACHE"


def import_pyopencl() -> Any:
    """The module; raises ImportError.

    Its caches fail where the home cannot be written, and a process that was killed leaves a lock in them, on which the
    next one waits for a minute and then fails. Drivers for GPUs have caches of their own. A process that imports
    pyopencl earlier, or sets PYOPENCL_NO_CACHE, decides otherwise.
    """
    unset = _SWITCH not in os.environ
    os.environ.setdefault(_SWITCH, "1")
    try:
        return importlib.import_module("pyopencl")
    finally:
        if unset:
            del os.environ[_SWITCH]
