"""Output files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ov_moe.errors import OutputError


def write_whole(path: Path, content: bytes | str) -> None:
    """``write_together`` for one file."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes | str]) -> None:
    """Write files beside their places and, when all stand there, rename them into these; older ones stay until then.

    Raises:
        OutputError: No permission, no space, no such folder; nothing is left behind.
    """
    drafts = dict[Path, Path]()
    path = Path()
    try:
        for path, content in contents.items():
            data = content.encode() if isinstance(content, str) else content
            if _is_stream(path):
                with open(path, "wb") as stream:
                    stream.write(data)
                continue
            drafts[path] = _draft(path)
            with open(drafts[path], "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, draft in drafts.items():
            os.replace(draft, path)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error.strerror or error}.") from None
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


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
