"""What test_killed_at_every_step.py runs in a process without threads: ``python kill_every_step.py WHAT ROOT``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from kernel_cases import config
from killing import at_every_step, leftovers

from ov_moe.commands.output_files import write_together
from ov_moe.folder import swap
from ov_moe.folder.ours import check_ours
from ov_moe.folder.write import check_replaceable, whole_folder
from ov_moe.kernels import geometry
from ov_moe.kernels.config import ModelConfig
from ov_moe.kernels.geometry import WorkSize
from ov_moe.kernels.layer_xml import layers
from ov_moe.kernels.stages import STAGES
from ov_moe.virtual_gpu import build

Steps = tuple[Callable[[], object], Callable[[], object], Callable[[bool], object]]
OLD = {"a.xml": "old", "sub/b.bin": "old too", "sub/c": "gone in the new one"}
NEW = {"a.xml": "new", "sub/b.bin": "new too", "d/e": "only in the new one"}


def whole(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def folder(root: Path, forced: bool = True) -> Steps:
    """A folder that takes the place of an older one, or stands where none was."""
    out = root / "out"

    def write(contents: dict[str, str]) -> None:
        swap.recover(root)
        with whole_folder(out, check_replaceable(out, True)) as fresh:
            for name, text in contents.items():
                (fresh.folder / name).parent.mkdir(exist_ok=True)
                (fresh.folder / name).write_text(text)

    def check(complete: bool) -> None:
        if complete:
            assert not leftovers(root), leftovers(root)
            assert {path.name for path in root.iterdir()} == {"out"}
        assert len(leftovers(root)) <= 1
        if swap.exchange is no_exchange and not out.exists() and forced:
            swap.recover(root)  # between two renames: the next run sets it right before all else
        if not out.exists():
            assert not complete
            assert not forced
            return
        check_ours(out)
        found = whole(out)
        del found["ov_moe_manifest.json"]
        assert found == NEW or (found == OLD and not complete and forced), found

    return lambda: write(OLD) if forced else None, lambda: write(NEW), check


def no_exchange(one: Path, other: Path) -> bool:
    return False


def renamed(root: Path) -> Steps:
    """As where two folders cannot be exchanged in one step."""
    swap.exchange = no_exchange
    return folder(root)


def layer_files(root: Path) -> Steps:
    """A layer folder with a source that was changed and one that is gone."""
    model = ModelConfig(config("ticket"), config("ticket", tile_m=8))
    sizes = {stage.op_type: WorkSize((7, 1, 1), geometry.local_size(stage, model.of(stage))) for stage in STAGES}
    found = layers(model, sizes)
    cache = root / "cache"

    def spoil() -> None:
        path = found.write(cache)
        (root / "changed").write_text("changed")
        (root / "changed").replace(path.parent / "route.cl")
        (path.parent / "weights.cl").unlink()
        (path.parent / "layers.xml").unlink()

    def check(complete: bool) -> None:
        place = cache / found.build
        kept = {path.name: path.read_bytes() for path in place.iterdir()}
        right = {name: (Path(build.__file__).parents[1] / "cl" / name).read_bytes() for name in found.sources}
        right["layers.xml"] = found.text.encode()
        for name, data in kept.items():
            assert data == right[name] or (data == b"changed" and not complete), name
        assert set(kept) == set(right) or not complete
        assert len(leftovers(root)) <= (0 if complete else 1)

    return spoil, lambda: found.write(cache), check


def outputs(root: Path) -> Steps:
    """A command's files, two of them in one folder."""
    names = (root / "x.json", root / "x.csv")

    def check(complete: bool) -> None:
        found = {path.name: path.read_text() for path in root.iterdir() if path.is_file()}
        assert set(found) == {"x.json", "x.csv"}
        assert set(found.values()) <= ({"new"} if complete else {"old", "new"})
        assert len(leftovers(root)) <= (0 if complete else 2)

    return (
        lambda: write_together(dict.fromkeys(names, "old")),
        lambda: write_together(dict.fromkeys(names, "new")),
        check,
    )


def library(root: Path) -> Steps:
    """The virtual GPU's library; a compiler that is quick stands for a real one."""
    script = Path(sys.argv[2]).parent / "quick-cc"
    script.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nprintf library >"$2"\n')
    script.chmod(0o755)
    build.compiler = lambda: [str(script)]

    def check(complete: bool) -> None:
        found = [path for path in root.rglob("*.so") if ".ov-moe/" not in str(path)]
        assert [path.read_text() for path in found] in ([["library"]] if complete else [["library"], []])
        assert len(leftovers(root)) <= (0 if complete else 1)

    return lambda: None, lambda: build.library([root / "virtual_gpu"]), check


ALL: dict[str, Callable[[Path], Steps]] = {
    "folder": folder,
    "first folder": lambda root: folder(root, forced=False),
    "renamed": renamed,
    "layers": layer_files,
    "outputs": outputs,
    "library": library,
}

if __name__ == "__main__":
    place = Path(sys.argv[2])
    print(at_every_step(place, *ALL[sys.argv[1]](place)))
