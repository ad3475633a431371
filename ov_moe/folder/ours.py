"""What lies in a folder, whether ov-moe wrote all of it, and how to remove no more than that."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ov_moe.errors import InvalidInputError
from ov_moe.folder.manifest import MANIFEST, Entry, entry_of, read_manifest

_NAMED = 3

# Of each file and sub-folder: what changes when it is replaced or written to. Relative paths, with slashes.
Snapshot = dict[str, tuple[int, ...]]


def snapshot(folder: Path) -> Snapshot:
    """All that lies below a folder; links are not followed. Raises OSError."""
    return dict(_look(folder, ""))


def _look(folder: Path, above: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for path in sorted(folder.iterdir()):
        about, name = path.lstat(), above + path.name
        if stat.S_ISDIR(about.st_mode):
            yield name, (about.st_mode, about.st_ino)
            yield from _look(path, f"{name}/")
        else:
            yield name, (about.st_mode, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


def check_ours(folder: Path) -> Snapshot:
    """What lies in a folder, all of which ov-moe wrote, or nothing.

    Every file is read and compared with the manifest. Files that are missing are no obstacle.

    Raises:
        InvalidInputError: The sentence names what ov-moe did not write, or what has changed since.
        OSError: Something cannot be read.
    """
    found = snapshot(folder)
    if not found:
        return found
    if MANIFEST not in found:
        raise InvalidInputError(
            f"{folder} holds no {MANIFEST}, in which ov-moe lists what it wrote (older versions did not), so --force "
            "does not replace it: move it away, or name another folder."
        )
    entries = read_manifest(folder)
    foreign, changed = _foreign(found, entries), _changed(folder, found, entries)
    if foreign or changed:
        reasons = [_some(foreign, "which ov-moe did not write")] if foreign else []
        reasons += [_some(changed, "changed since ov-moe wrote it")] if changed else []
        raise InvalidInputError(
            f"{folder} holds {' and '.join(reasons)}, so --force does not replace it: move that elsewhere, or name "
            "another folder."
        )
    return found


def _foreign(found: Snapshot, entries: dict[str, Entry]) -> list[str]:
    """What is not on the list, a whole sub-folder as one."""
    known = {str(above) for path in entries for above in PurePosixPath(path).parents}
    foreign: list[str] = []
    for name, about in found.items():
        if foreign and foreign[-1].endswith("/") and name.startswith(foreign[-1]):
            continue
        if stat.S_ISDIR(about[0]):
            foreign += [f"{name}/"] if name not in known else []
        elif name != MANIFEST and (name not in entries or not stat.S_ISREG(about[0])):
            foreign.append(name)
    return foreign


def _changed(folder: Path, found: Snapshot, entries: dict[str, Entry]) -> list[str]:
    there = [name for name in entries if name in found and stat.S_ISREG(found[name][0])]
    return [name for name in there if found[name][2] != entries[name].size or entry_of(folder / name) != entries[name]]


def _some(names: list[str], what: str) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}, {what}"


def remove(folder: Path, found: Snapshot) -> None:
    """Remove what ``check_ours`` found, the manifest last, and the folder.

    Killed in between, it leaves a folder that ``check_ours`` still takes. Raises OSError where something else lies
    in it by now.
    """
    folders = [name for name, about in found.items() if stat.S_ISDIR(about[0])]
    for name in found:
        if name not in folders and name != MANIFEST:
            os.unlink(folder / name)
    for name in reversed(folders):
        (folder / name).rmdir()
    if MANIFEST in found:
        os.unlink(folder / MANIFEST)
    folder.rmdir()
