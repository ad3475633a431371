"""Reads the IRs of a model folder."""

from __future__ import annotations

from pathlib import Path

import openvino as ov

from ov_moe.errors import InvalidInputError
from ov_moe.ops.registry import register


def new_core() -> ov.Core:
    """A Core that knows ov-moe's operations. No plugin is loaded."""
    core = ov.Core()
    register(core)
    return core


def read(core: ov.Core, path: Path) -> ov.Model:
    """Read an IR, its weights mapped.

    Raises:
        InvalidInputError: Its .bin is missing, or OpenVINO cannot read it.
        OSError: One of its files cannot be opened.
    """
    weights = path.with_suffix(".bin")
    if not weights.exists():
        raise InvalidInputError(f"The weights of {path} are missing: there is no {weights.name} beside it.")
    for file in (path, weights):
        file.open("rb").close()
    try:
        return core.read_model(path)
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise InvalidInputError(f"OpenVINO cannot read {path}: {lines[-1].strip()}") from error
