"""Puts a complete folder in the place of an older one, in one step where the system can."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import sys
from pathlib import Path

from ov_moe.errors import InvalidInputError, OutputError
from ov_moe.folder.ours import Snapshot, check_ours, remove, snapshot
from ov_moe.storage.drafts import OLD, Draft, dead

logger = logging.getLogger("ov_moe")

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NOT_HERE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)


def put_in_place(made: Draft, output: Path, replaced: Snapshot | None) -> None:
    """Rename a draft's ``new`` to ``output``.

    Args:
        made: The draft, beside ``output``.
        output: The folder's place.
        replaced: What lies there now and may be removed, from ``check_ours``; None where nothing does.

    Raises:
        OutputError: What lies there is something else by now; it stays.
        OSError: It cannot be renamed; what lies there stays.
    """
    if replaced is None:
        try:
            os.rename(made.new, output)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise OutputError(f"{output} appeared meanwhile, and stays: name another folder.") from None
        return
    old = made.folder / OLD
    _set_aside(made, output, old)
    try:
        same = snapshot(old) == replaced
    except BaseException:
        _put_back(made, output, old)
        raise
    if not same:
        _put_back(made, output, old)
        raise OutputError(f"What lies in {output} changed meanwhile, and stays: look at it, then try again.")
    try:
        remove(old, replaced)
    except KeyboardInterrupt:
        raise OutputError(f"{output} is written; the next run removes the rest of what was there before.") from None
    except OSError as error:
        raise OutputError(
            f"{output} is written, and what was in it before could not be removed ({error}): look into {old}."
        ) from error


def _set_aside(made: Draft, output: Path, old: Path) -> None:
    """Move ``new`` to ``output`` and what lies there to ``old``."""
    os.rename(made.new, old)
    try:
        if exchange(old, output):
            return
    except BaseException:
        os.rename(old, made.new)
        raise
    os.rename(old, made.new)
    os.rename(output, old)  # killed behind this line, `recover` puts it back
    try:
        os.rename(made.new, output)
    except BaseException:
        os.rename(old, output)
        raise


def _put_back(made: Draft, output: Path, old: Path) -> None:
    if exchange(old, output):
        os.rename(old, made.new)
        return
    os.rename(output, made.new)
    os.rename(old, output)


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system or the file system cannot. Raises OSError."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if not rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in _NOT_HERE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def recover(folder: Path) -> None:
    """Finish what killed runs left in a folder: an older output that was moved aside comes back, or goes.

    It comes back where its place is empty, and goes where ov-moe wrote all of it and another is in its place.
    """
    for left, name in dead(folder):
        old, place = left / OLD, folder / name
        if not old.is_dir():
            continue
        try:
            if os.path.lexists(place):
                remove(old, check_ours(old))
            else:
                os.rename(old, place)
        except (InvalidInputError, OSError) as error:
            logger.warning("%s was left by a run that was killed, and stays: %s", left, error)
