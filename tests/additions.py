"""Toys: one of each thing that may be added to the package, as it would be added, in a copy of the tree.

tests/toys/NAME holds the new files where they would lie in the tree; ``lines.json``, what comes into files that are
there, each time behind or instead of the line that begins with some text; and ``run.py``, whose functions run in a
process of their own on the copy and fail where the toy does.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from virtual_gpu_child import START

ROOT = Path(__file__).parents[1]
TOYS = ROOT / "tests" / "toys"
TREE = ("ov_moe", "cl", "transformations", "scripts", "pyproject.toml")


def copied(folder: Path) -> Path:
    """The sources in a folder, the two links as links."""
    for name in TREE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


def add(toy: str, tree: Path) -> None:
    """The toy in a copy of the tree."""
    for file in new_files(toy):
        assert not (tree / file).exists()
        shutil.copy(TOYS / toy / file, tree / file)
    for entry in json.loads((TOYS / toy / "lines.json").read_text(encoding="utf-8")):
        path = tree / entry["file"]
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        begin = entry.get("behind") or entry["instead_of"]
        (place,) = (number for number, line in enumerate(lines) if line.startswith(begin))
        lines[place + ("behind" in entry) : place + 1] = [f"{line}\n" for line in entry["lines"]]
        path.write_text("".join(lines), encoding="utf-8")


def new_files(toy: str) -> list[str]:
    """Its files that would be new in the tree."""
    found = (path for name in TREE for path in (TOYS / toy / name).rglob("*") if path.is_file())
    return sorted(path.relative_to(TOYS / toy).as_posix() for path in found if path.suffix != ".pyc")


def touched(tree: Path) -> list[str]:
    """Files of a copy that are new or changed."""
    files = (path for name in TREE for path in [tree / name, *(tree / name).rglob("*")] if path.is_file())
    names = sorted(path.relative_to(tree).as_posix() for path in files if "__pycache__" not in path.parts)
    return [
        name for name in names if not (ROOT / name).exists() or not filecmp.cmp(tree / name, ROOT / name, shallow=False)
    ]


def run(toy: str, function: str, folder: Path) -> str:
    """What a function of ``run.py`` prints, run on a copy with the toy; fails where it fails."""
    tree = copied(folder)
    add(toy, tree)
    paths = [str(path) for path in (tree, ROOT / "tests", ROOT / "tests" / "model", TOYS / toy)]
    done = subprocess.run(
        [sys.executable, "-c", f"{START}import run\nrun.{function}()"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
