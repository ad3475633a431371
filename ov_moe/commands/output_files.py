"""Output files that appear whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ov_moe.errors import OutputError
from ov_moe.storage.drafts import draft, replacing, write_new

_MOST_LINKS = 40  # as Linux follows them
_STDOUT = tuple(map(Path, ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")))


def write_whole(path: Path, content: bytes | str) -> None:
    """``write_together`` for one file."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes | str]) -> None:
    """Write files beside their places and, when all stand there, rename them into these; older ones stay until then.

    Raises:
        OutputError: No permission, no space, no such folder; nothing is left behind.
    """
    path = Path()
    try:
        with replacing() as new_draft:
            for path, content in contents.items():
                data = content.encode() if isinstance(content, str) else content
                if any(step in _STDOUT for step in _steps(path)):
                    # Opened by name, a file behind it would mix up what is printed before and after.
                    sys.stdout.flush()
                    sys.stdout.buffer.write(data)
                    sys.stdout.flush()
                    continue
                if _is_stream(path):
                    with open(path, "ab") as stream:
                        stream.write(data)
                    continue
                # A link stays one.
                write_new(new_draft(Path(os.path.realpath(path))).new, data)
    except OSError as error:
        path = error.filename2 or path  # of two names, as of a renaming, the file's is the second
        raise OutputError(f"{path} could not be written: {error.strerror or error}.") from None


def check_writable(paths: Iterable[Path | None]) -> None:
    """Raise OutputError now, not after a long run, where a file could not be written; None stands for no file.

    Two outputs in one place are refused: the second would replace the first.
    """
    seen = set[str]()
    for path in paths:
        if path is None:
            continue
        place = os.path.realpath(path)
        if place in seen and not _is_stream(path):
            raise OutputError(f"{path} is the place of two outputs: give each a name of its own.")
        seen.add(place)
        if path.is_dir():
            raise OutputError(f"{path} is a folder: name a file in it.")
        try:
            if not _is_stream(path):
                with draft(Path(os.path.realpath(path))):
                    pass
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from None


def _is_stream(path: Path) -> bool:
    """Whether the path leads to a terminal, a pipe, a device or a file that is open, which no file may replace."""
    for step in _steps(path):
        if step.is_relative_to("/proc") or (step.is_relative_to("/dev") and not step.is_relative_to("/dev/shm")):
            return True
    return path.exists() and not path.is_file()


def _steps(path: Path) -> Iterator[Path]:
    """The path, what it links to, what that links to, ..."""
    step = path.absolute()
    for _ in range(_MOST_LINKS):
        yield step
        if not step.is_symlink():
            return
        step = step.parent / os.readlink(step)
