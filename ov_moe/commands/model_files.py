"""Model files, looked at before anything is started."""

from __future__ import annotations

import os
from pathlib import Path

from ov_moe.errors import InvalidInputError


def find_model(place: Path) -> Path:
    """The IR's .xml of a folder or of a path to it, readable, with its weights beside it.

    Raises:
        InvalidInputError: It is not there, or may not be read.
    """
    try:
        path = place / "openvino_model.xml" if place.is_dir() else place
        missing = not path.is_file()
    except OSError as error:
        raise InvalidInputError(f"{place} cannot be looked at: {error.strerror}.") from None
    if missing:
        raise InvalidInputError(f"There is no model at {path}: give an IR's .xml or a folder with openvino_model.xml.")
    if path.suffix != ".xml":
        raise InvalidInputError(f"{path} is no IR's .xml: give that, or a folder with openvino_model.xml.")
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise InvalidInputError(f"{weights} is missing: an IR's weights stand beside its .xml.")
    for file in (path, weights):
        if not os.access(file, os.R_OK):
            raise InvalidInputError(f"{file} may not be read by this user: change its permissions.")
    return path.resolve()
