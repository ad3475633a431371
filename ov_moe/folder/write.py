"""Writes a folder whole or not at all. Does not import openvino."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ov_moe.errors import InvalidInputError, OutputError, OvMoeError

_CHUNK = 8 << 20


def check_output(source: Path, output: Path, force: bool) -> None:
    """Refuse an output that is in the way of the model, or that must not be replaced.

    Args:
        source: The model's folder, or an IR's .xml.
        output: The folder to write.
        force: Whether a folder with an IR, or an empty one, may be replaced.

    Raises:
        InvalidInputError: With the reason.
    """
    folder = (source if source.is_dir() else source.parent).resolve()
    target = output.resolve()
    if target == folder or target in folder.parents:
        raise InvalidInputError(f"{output} is where the model lies: name another folder to write.")
    if source.is_dir() and folder in target.parents:
        raise InvalidInputError(f"{output} lies inside the model's folder {source}: name a folder outside of it.")
    if output.suffix == ".xml":
        raise InvalidInputError(f"{output} would be a folder: name it without .xml.")
    above = next(path for path in target.parents if path.exists())
    if not above.is_dir():
        raise InvalidInputError(f"{above} is no folder: nothing can be written into it.")
    if not os.path.lexists(output):
        return
    if not force:
        raise InvalidInputError(
            f"{output} exists already: name another folder, or replace it with --force (in Python force=True)."
        )
    if output.is_symlink() or not output.is_dir():
        raise InvalidInputError(f"{output} is no folder, so --force does not replace it.")
    if any(output.iterdir()) and not any(output.glob("**/*.xml")):
        raise InvalidInputError(f"{output} holds no IR, so --force does not replace it.")


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """Yields an empty folder beside ``output`` that takes its place at the end, or vanishes on any exception.

    Folders above ``output`` that were missing vanish as well. Raises OutputError where none can be made.
    """
    made = [parent for parent in output.absolute().parents if not parent.exists()]
    try:
        with _beside(output) as temporary:
            fresh = Path(temporary) / "new"
            fresh.mkdir()
            yield fresh
            _swap(fresh, output, Path(temporary) / "old")
    except BaseException:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        raise


def _beside(output: Path) -> tempfile.TemporaryDirectory[str]:
    parent = output.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=parent, prefix=f".{output.name}.")
    except OSError as error:
        raise OutputError(f"{parent} cannot be written ({error.strerror}): name another place for OUT.") from error


def _swap(fresh: Path, output: Path, old: Path) -> None:
    """Puts ``fresh`` in the place of ``output``, whose content goes to ``old``, or back on any exception."""
    if output.exists():
        os.replace(output, old)
    try:
        os.replace(fresh, output)
    except BaseException:
        if old.exists() and not output.exists():
            os.replace(old, output)
        raise


def check_room(folder: Path, needed: int) -> None:
    """Raise OvMoeError unless the disk of ``folder`` (or of its first parent that exists) has that many bytes."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise OvMoeError(f"{needed / 1e6:.1f} MB are to be written, and {place} has room for {free / 1e6:.1f} MB only.")


def copy(source: Path, target: Path, written: Callable[[int], None]) -> None:
    """Copies a file's content, through links; ``written`` hears how many bytes stand there so far."""
    target.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)
            written(done := done + len(chunk))
