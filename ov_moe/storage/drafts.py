"""What is being written stands in a draft: a folder beside its place, from which it is renamed into it.

A draft is known by its name, ``.NAME.<16 hex digits>.ov-moe``, and holds a file ``lock``, which its process keeps
locked. The kernel lets go of it however that process ends, so the next one can tell a draft that was left behind from
one at work, and removes it. Where files cannot be locked (Windows, some network file systems) none is removed.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# In a draft, what is no draft: an older folder that was moved aside. Never removed here.
OLD = "old"
_LOCK = "lock"
_NAME = re.compile(r"\.(.+)\.[0-9a-f]{16}\.ov-moe", re.DOTALL)


@dataclass(frozen=True)
class Draft:
    """A folder that is this process's own.

    Attributes:
        folder: The folder; it holds the lock and what is put into it.
        lock: Descriptor of the lock; a child process that writes into the folder inherits it.
    """

    folder: Path
    lock: int

    @property
    def new(self) -> Path:
        """Where what is being written may stand; nothing is there yet."""
        return self.folder / "new"


@contextmanager
def draft(target: Path) -> Iterator[Draft]:
    """A draft beside ``target``, removed at the end with all that is still in it, unless an OLD is.

    Drafts in that folder that killed processes left are removed first. Raises OSError where none can be made.
    """
    sweep(target.parent)
    made = _make(target)
    try:
        yield made
    finally:
        os.close(made.lock)
        _remove(made.folder)


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A folder for temporary files, which the next process removes where this one is killed."""
    with draft(Path(tempfile.gettempdir(), name)) as made:
        made.new.mkdir()
        yield made.new


class NewDraft(Protocol):
    """Gives a file's draft, whose ``new`` is to be written."""

    def __call__(self, path: Path, beside: Path | None = None) -> Draft:
        """The draft stands beside ``path``, or in the folder ``beside`` of the same file system. Raises OSError."""


@contextmanager
def replacing() -> Iterator[NewDraft]:
    """Write files beside their places and, when all are complete, rename them into these; older ones stay until then.

    Where the block fails nothing changes. Raises OSError.
    """
    drafts: dict[Path, Draft] = {}
    with ExitStack() as stack:

        def new_draft(path: Path, beside: Path | None = None) -> Draft:
            drafts[path] = stack.enter_context(draft((beside or path.parent) / path.name))
            return drafts[path]

        yield new_draft
        for path, made in drafts.items():
            os.replace(made.new, path)


def replace_file(path: Path, data: bytes, mode: int = 0o666, beside: Path | None = None) -> None:
    """Write a file whole or not at all.

    Args:
        path: The file; an older one stays until the new one is complete.
        data: Its content.
        mode: Its permissions, less the umask.
        beside: Where the draft stands, on the same file system; by default beside ``path``.

    Raises:
        OSError: Nothing has changed.
    """
    with replacing() as new_draft:
        write_new(new_draft(path, beside).new, data, mode)


def write_new(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file that is not there yet, through to the disk. Raises OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sweep(folder: Path) -> None:
    """Remove drafts in a folder that killed processes left, but those that hold an OLD."""
    for left, _ in dead(folder):
        _remove(left)


def dead(folder: Path) -> Iterator[tuple[Path, str]]:
    """This user's drafts in a folder whose processes are gone, each with the name it was for; locked while yielded."""
    try:
        with os.scandir(folder) as entries:
            found = [(Path(entry), match[1]) for entry in entries if (match := _NAME.fullmatch(entry.name))]
    except OSError:
        return
    for path, name in found:
        lock = _open_lock(path)
        if lock is None:
            continue
        try:
            if _hold(lock):
                yield path, name
        finally:
            os.close(lock)


def sweep_files(folder: Path, pattern: re.Pattern[str]) -> None:
    """Remove this user's files of such names that no process holds a lock on. Raises OSError."""
    with os.scandir(folder) as entries:
        found = [Path(entry) for entry in entries if pattern.fullmatch(entry.name) and entry.is_file()]
    for path in found:
        with suppress(OSError):
            if fcntl is None or path.lstat().st_uid != os.geteuid():
                continue
            lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if _hold(lock):
                    path.unlink()
            finally:
                os.close(lock)


def _make(target: Path) -> Draft:
    while True:
        folder = target.with_name(f".{target.name}.{secrets.token_hex(8)}.ov-moe")
        folder.mkdir(mode=0o700)
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileNotFoundError:
            continue  # swept away before it had a lock
        except OSError:
            folder.rmdir()
            raise
        if _hold(lock) is not False and os.fstat(lock).st_nlink:
            return Draft(folder, lock)
        os.close(lock)  # swept away before it was locked


def _open_lock(folder: Path) -> int | None:
    if fcntl is None:
        return None
    try:
        about = folder.lstat()
        # The permission bits tell a draft from a folder that only bears such a name.
        if not stat.S_ISDIR(about.st_mode) or about.st_mode & 0o777 != 0o700 or about.st_uid != os.geteuid():
            return None
        return os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        with suppress(OSError):
            folder.rmdir()  # killed before it had a lock, or after it lost it: empty
    except OSError:
        pass
    return None


def _hold(lock: int) -> bool | None:
    """Whether the lock is held now; None where files cannot be locked."""
    try:
        if fcntl is None:
            return None
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove(folder: Path) -> None:
    """Remove a draft, its lock last; what cannot be removed is left to the next sweep."""
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if path.name not in (_LOCK, OLD)]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        if {path.name for path in folder.iterdir()} == {_LOCK}:
            (folder / _LOCK).unlink()
            folder.rmdir()
