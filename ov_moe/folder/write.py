"""Writes a folder whole or not at all. Does not import openvino."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ov_moe.errors import InvalidInputError, OutputError, OvMoeError
from ov_moe.folder.manifest import Entry, entry_of, write_manifest
from ov_moe.folder.ours import Snapshot, check_ours, snapshot
from ov_moe.folder.swap import put_in_place
from ov_moe.storage.drafts import draft


def check_output(source: Path, output: Path, force: bool) -> Snapshot | None:
    """Refuse an output that is in the way of the model, or that must not be replaced.

    Args:
        source: The model's folder, or an IR's .xml.
        output: The folder to write.
        force: Whether a folder in which ov-moe wrote all, or an empty one, may be replaced.

    Returns:
        As ``check_replaceable``.

    Raises:
        InvalidInputError: With the reason.
        OSError: Something in ``output`` cannot be read.
    """
    folder = (source if source.is_dir() else source.parent).resolve()
    target = output.resolve()
    if target == folder or target in folder.parents:
        raise InvalidInputError(f"{output} is where the model lies: name another folder to write.")
    if source.is_dir() and folder in target.parents:
        raise InvalidInputError(f"{output} lies inside the model's folder {source}: name a folder outside of it.")
    if output.name in ("", "..") or target in (Path.cwd(), *Path.cwd().parents):
        raise InvalidInputError(f"{output} is the current folder, or above it: name another folder to write.")
    if output.suffix == ".xml":
        raise InvalidInputError(f"{output} would be a folder: name it without .xml.")
    above = next(path for path in target.parents if path.exists())
    if not above.is_dir():
        raise InvalidInputError(f"{above} is no folder: nothing can be written into it.")
    return check_replaceable(output, force)


def check_replaceable(output: Path, force: bool) -> Snapshot | None:
    """What lies at ``output`` and may be replaced; None where nothing does.

    Raises:
        InvalidInputError: Something does, and ``force`` is not set, or ov-moe did not write all of it.
        OSError: Something in it cannot be read.
    """
    if not os.path.lexists(output):
        return None
    if not force:
        raise InvalidInputError(
            f"{output} exists already: name another folder, or replace it with --force (in Python force=True)."
        )
    if output.is_symlink() or not output.is_dir():
        raise InvalidInputError(f"{output} is no folder, so --force does not replace it.")
    if os.path.ismount(output):
        raise InvalidInputError(f"{output} is where a disk is mounted, so it cannot be replaced: name a folder in it.")
    return check_ours(output)


@dataclass(frozen=True)
class Fresh:
    """A folder that is being written.

    Attributes:
        folder: The folder, empty at first.
        lock: Descriptor that a child process inherits while it writes into the folder.
        entries: What is known of its files already, by their relative path; the others are read at the end.
    """

    folder: Path
    lock: int
    entries: dict[str, Entry]


@contextmanager
def whole_folder(output: Path, replaced: Snapshot | None) -> Iterator[Fresh]:
    """Yields an empty folder that takes the place of ``output`` at the end, or vanishes on any exception.

    It gets a manifest, and is on the disk before anything is replaced. Folders above ``output`` that were missing
    vanish as well.

    Args:
        output: The folder to write.
        replaced: From ``check_replaceable``.

    Raises:
        OutputError: No folder can be made, or what lies at ``output`` has changed meanwhile.
    """
    place = output.parent.resolve() / output.name
    made = [parent for parent in place.parents if not parent.exists()]
    try:
        with ExitStack() as stack:
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                beside = stack.enter_context(draft(place))
                beside.new.mkdir()
            except OSError as error:
                raise OutputError(
                    f"{place.parent} cannot be written ({error.strerror}): name another place for OUT."
                ) from error
            fresh = Fresh(beside.new, beside.lock, {})
            yield fresh
            _seal(fresh)
            put_in_place(beside, place, replaced)
    except BaseException:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        raise


def _seal(fresh: Fresh) -> None:
    """Leave the manifest, and wait until all is on the disk: what it replaces is deleted next."""
    files = {name: fresh.folder / name for name, about in snapshot(fresh.folder).items() if stat.S_ISREG(about[0])}
    entries = {name: fresh.entries.get(name) or entry_of(path) for name, path in files.items()}
    write_manifest(fresh.folder, entries)
    if os.name != "posix":
        return
    for path in (*files.values(), *(fresh.folder / name for name in _folders(files)), fresh.folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _folders(files: Iterable[str]) -> set[str]:
    return {str(above) for name in files for above in PurePosixPath(name).parents}


def check_room(folder: Path, needed: int) -> None:
    """Raise OvMoeError unless the disk of ``folder`` (or of its first parent that exists) has that many bytes."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise OvMoeError(f"{needed / 1e6:.1f} MB are to be written, and {place} has room for {free / 1e6:.1f} MB only.")


def copy(source: Path, target: Path, written: Callable[[int], None]) -> Entry:
    """Copies a file's content, through links; ``written`` hears how many bytes stand there so far."""
    target.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with target.open("wb") as writer:

        def take(chunk: bytes) -> None:
            nonlocal done
            writer.write(chunk)
            written(done := done + len(chunk))

        return entry_of(source, take)
