"""Whether others could have put code into a folder: what is loaded from there runs as this user."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def own_or_root(path: Path) -> bool:
    """Whether a file or folder belongs to this user or to root; always so on Windows. Raises OSError."""
    return os.name != "posix" or path.lstat().st_uid in (0, os.geteuid())


def distrust(path: Path, *, any_owner: bool = False, variable: str = "OV_MOE_CACHE") -> str | None:
    """Why code in ``path`` must not be run: a sentence that says what to do; None where it may.

    The path itself, the folder that it lies in and those above must belong to this user or to root, and nobody else
    may write to them. Above, a sticky folder such as /tmp serves: nobody can replace there what another owns. Writing
    is granted to a group that is the user's own, of the same name and without another member, as OpenSSH has it.
    On Windows all is trusted.

    Args:
        path: A file or folder, without links.
        any_owner: Whether all may belong to somebody else, for content that is compared with what it has to be.
        variable: What the sentence names: the variable that says where the code is kept.

    Raises:
        OSError: Something on the way cannot be looked at.
    """
    if os.name != "posix":
        return None
    near = 2 if path.is_file() else 1
    for step, place in enumerate((path, *path.parents)):
        about = place.lstat()
        sticky = step >= near and about.st_mode & stat.S_ISVTX
        if not any_owner and about.st_uid not in (0, os.geteuid()):
            return (
                f"{place} belongs to {_user(about.st_uid)}, who could put other code there: let {variable} name "
                "a folder of your own."
            )
        if not sticky and _others_write(about):
            advice = f"chmod go-w {place}" if step < near else f"chmod go-w {place} (or +t, as /tmp has it)"
            return (
                f"{place} can be written by other users, who could put other code there: {advice}, or let {variable} "
                "name another folder."
            )
    return None


def _others_write(about: os.stat_result) -> bool:
    if about.st_mode & stat.S_IWOTH:
        return True
    return bool(about.st_mode & stat.S_IWGRP) and not _private(about.st_gid, about.st_uid)


def _private(group: int, owner: int) -> bool:
    """Whether a group is that of one user alone, as where the umask is 002."""
    import grp
    import pwd

    try:
        about, name = grp.getgrgid(group), pwd.getpwuid(owner).pw_name
    except KeyError:
        return False
    return about.gr_name == name and set(about.gr_mem) <= {name}


def _user(number: int) -> str:
    import pwd

    try:
        return f"the user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"the user {number}"
