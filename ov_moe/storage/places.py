"""Where in the cache folder code is kept: one place for all of its users, or one for each."""

from __future__ import annotations

import os
from pathlib import Path

# Others may read, and nobody else writes, whatever the umask.
FOLDER_MODE, FILE_MODE = 0o755, 0o644


def places(cache: Path, kind: str) -> tuple[Path, ...]:
    """Folders for one kind of code, in the order of preference, without links; none of them need exist.

    The second one is for a user who may not write, or does not trust, what another one has in the first.
    """
    real = Path(os.path.realpath(cache))
    if os.name != "posix":
        return (real / kind,)
    return real / kind, real / f"uid-{os.geteuid()}" / kind


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, for nobody else to write. Raises OSError."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=FOLDER_MODE, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(20, os.strerror(20), str(folder))
