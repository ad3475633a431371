"""Files in the cache whose content is known beforehand: what is there is compared, and replaced where it differs."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path

from ov_moe.errors import DeviceError
from ov_moe.storage.drafts import replace_file, sweep
from ov_moe.storage.places import FILE_MODE, make_folder
from ov_moe.storage.trust import distrust, own_or_root


def kept(folders: Iterable[Path], name: str, contents: Mapping[str, bytes], *, any_owner: bool = False) -> Path:
    """A sub-folder that holds these files, with this content.

    Args:
        folders: Where the sub-folder may be, from ``places``; the first that serves is taken.
        name: Of the sub-folder.
        contents: By the files' names, the one that names the others last.
        any_owner: Whether what another user wrote serves where the content is right.

    Raises:
        DeviceError: Others could write to what serves; the sentence says what to do.
        OSError: None of the folders serves; the reason is that of the first.
    """
    failed: OSError | None = None
    for folder in folders:
        try:
            _put(folder, name, contents, any_owner)
        except OSError as error:
            failed = failed or error
            continue
        for file in contents:
            reason = distrust(folder / name / file, any_owner=any_owner)
            if reason:
                raise DeviceError(reason)
        return folder / name
    raise failed or OSError(errno.ENOENT, "no folder is given")


def _put(folder: Path, name: str, contents: Mapping[str, bytes], any_owner: bool) -> None:
    if not any_owner and folder.exists() and not own_or_root(folder):
        raise PermissionError(errno.EACCES, "it belongs to another user", str(folder))
    sweep(folder)
    wrong = [file for file, data in contents.items() if not _holds(folder / name / file, data)]
    if wrong:
        make_folder(folder / name)
    for file in wrong:
        # The draft is beside the sub-folder, where a later one is found and removed whatever it was for.
        replace_file(folder / name / file, contents[file], FILE_MODE, beside=folder)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return (
            path.is_file() and not path.is_symlink() and path.stat().st_size == len(data) and path.read_bytes() == data
        )
    except OSError:
        return False
