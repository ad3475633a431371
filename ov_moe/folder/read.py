"""Reads IRs: the one place where a command or a helper does."""

from __future__ import annotations

from pathlib import Path

import openvino as ov

from ov_moe.errors import InvalidInputError
from ov_moe.folder.files import is_ir
from ov_moe.openvino_errors import message_of
from ov_moe.ops.registry import register
from ov_moe.transformations.operations import moe_operations


def new_core() -> ov.Core:
    """A Core that knows ov-moe's operations. No plugin is loaded."""
    core = ov.Core()
    register(core)
    return core


def check_ir(path: Path) -> None:
    """Look at an IR's files without reading the model.

    The XML is parsed first: OpenVINO offers what it cannot parse to readers of other formats, which write to stderr.

    Raises:
        InvalidInputError: Its .bin is missing, or its .xml is broken or no IR.
        OSError: One of its files cannot be opened.
    """
    if not is_ir(path):
        raise InvalidInputError(f"{path} is no OpenVINO IR: give an IR's .xml or a model's folder.")
    weights = path.with_suffix(".bin")
    if not weights.exists():
        raise InvalidInputError(
            f"The weights of {path} are missing: there is no {weights.name} beside it, so copy both files again."
        )
    weights.open("rb").close()


def read(core: ov.Core, path: Path) -> ov.Model:
    """Read an IR, its weights mapped.

    Raises:
        InvalidInputError: As ``check_ir``, or OpenVINO cannot read it.
        OSError: One of its files cannot be opened.
    """
    check_ir(path)
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise InvalidInputError(
            f"OpenVINO cannot read {path} ({message_of(error)}): export it again, or copy both files again."
        ) from error


def read_original(core: ov.Core, path: Path) -> ov.Model:
    """Read an IR from which variants are made; raises as ``read``, and InvalidInputError where it is optimised."""
    register(core)
    model = read(core, path)
    if any(moe_operations(model)):
        raise InvalidInputError(
            f"{path} holds ov-moe's operations already: give the original model, from which the variants are made."
        )
    return model
