"""Output files that appear whole or not at all, and model files that are looked at before anything is started."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ov_moe.errors import InvalidInputError, OvMoeError


class OutputError(OvMoeError):
    """A result cannot be written."""


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file beside its place and rename it into it; an older file stays until then.

    Raises:
        OutputError: No permission, no space, no such folder; nothing is left behind.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if _is_stream(path):
            with open(path, "wb") as stream:
                stream.write(data)
            return
        draft = _draft(path)
        try:
            with open(draft, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error.strerror or error}.") from None


def check_writable(paths: Iterable[Path | None]) -> None:
    """Raise OutputError now, not after a long run, where a file could not be written; None stands for no file."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise OutputError(f"{path} is a folder: name a file in it.")
        try:
            if not _is_stream(path):
                _draft(path).unlink()
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from None


def _is_stream(path: Path) -> bool:
    """Whether the path is a terminal, a pipe or a device, such as /dev/stdout, which no file may replace."""
    return path.exists() and not path.is_file()


def _draft(path: Path) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    # mkstemp's files are for their owner alone; results are ordinary files.
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(name, 0o666 & ~mask)
    os.close(handle)
    return Path(name)


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
