"""What lies in a model folder: regular files, and which of them are IRs. Does not import openvino."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from ov_moe.errors import InvalidInputError
from ov_moe.folder.manifest import MANIFEST
from ov_moe.kernels.stages import STAGES

# Not part of a model: version control, download bookkeeping, and compiled models of the unchanged IR.
LEFT_OUT = frozenset({".git", ".cache", "model_cache"})
# Of another folder: what ov-moe writes gets a list of its own.
_LEFT_OUT_FILES = frozenset({MANIFEST})
_IR_VERSIONS = ("10", "11")
_OUR_TYPES = frozenset(stage.op_type for stage in STAGES)


@dataclass(frozen=True)
class Listing:
    """A model folder, or one IR of it.

    Attributes:
        root: The folder.
        irs: The IRs' .xml files, relative to the root, sorted.
        others: All other files but the IRs' .bin files; relative, sorted.
        left_out: Sub-folders and files that are not part of a model; relative, sorted.
    """

    root: Path
    irs: tuple[Path, ...]
    others: tuple[Path, ...]
    left_out: tuple[Path, ...]


def list_model(source: Path) -> Listing:
    """What a folder holds, sub-folders included; or one IR's .xml, which then stands alone.

    Symbolic links count as what they point to.

    Raises:
        InvalidInputError: There is no such folder or file, it holds no IR, an .xml in it cannot be parsed, or
            something in it is neither a file nor a folder.
        OSError: Something cannot be read.
    """
    if not source.exists():
        raise InvalidInputError(f"There is no model at {source}: give a model's folder or an IR's .xml.")
    if not source.is_dir():
        if not is_ir(source):
            raise InvalidInputError(f"{source} is no OpenVINO IR: give an IR's .xml or a model's folder.")
        return Listing(source.parent, (Path(source.name),), (), ())
    left_out: list[Path] = []
    files = sorted(_walk(source, Path(), left_out, (source.resolve(),)))
    irs = [path for path in files if path.suffix == ".xml" and is_ir(source / path)]
    if not irs:
        raise InvalidInputError(f"{source} holds no OpenVINO IR (.xml and .bin): export the model to OpenVINO first.")
    weights = {path.with_suffix(".bin") for path in irs}
    others = tuple(path for path in files if path not in weights and path not in irs)
    return Listing(source, tuple(irs), others, tuple(sorted(left_out)))


def _walk(root: Path, folder: Path, left_out: list[Path], above: tuple[Path, ...]) -> Iterator[Path]:
    """Every file below ``folder``, relative to ``root``; ``above`` are the folders on the way, to notice a loop."""
    with os.scandir(root / folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if entry.is_dir():
                if entry.name in LEFT_OUT:
                    left_out.append(path)
                    continue
                real = (root / path).resolve()
                if real in above:
                    raise InvalidInputError(f"{root / path} is a link to a folder that it lies in.")
                yield from _walk(root, path, left_out, (*above, real))
            elif entry.is_file():
                if entry.name in _LEFT_OUT_FILES:
                    left_out.append(path)
                    continue
                yield path
            else:
                kind = "a link to nothing" if entry.is_symlink() else "neither a file nor a folder"
                raise InvalidInputError(f"{root / path} is {kind}: it cannot be carried over.")


def is_ir(path: Path) -> bool:
    """Whether an XML file is an OpenVINO IR.

    Raises:
        InvalidInputError: It is no well-formed XML, or an IR of a version that is not read.
    """
    return layer_types(path) is not None


def layer_types(path: Path) -> frozenset[str] | None:
    """The types of all layers of an IR, loop bodies included; None where the XML is something else.

    Raises InvalidInputError as ``is_ir``.
    """
    types: set[str] = set()
    root: list[str] = []

    def element(name: str, attributes: dict[str, str]) -> None:
        if not root:
            root.append(name)
            if name == "net" and attributes.get("version") not in _IR_VERSIONS:
                raise InvalidInputError(f"{path} is no IR of version {' or '.join(_IR_VERSIONS)}: export it again.")
        elif name == "layer":
            types.add(attributes.get("type", ""))

    parser = expat.ParserCreate()
    parser.StartElementHandler = element
    with path.open("rb") as file:
        try:
            parser.ParseFile(file)
        except expat.ExpatError as error:
            raise InvalidInputError(
                f"{path} is broken XML ({error}): export it again, or copy both files again."
            ) from None
    return frozenset(types) if root == ["net"] else None


def may_hold_blocks(types: frozenset[str]) -> bool:
    """Whether an IR with these layers has to be read to see its blocks.

    Others, such as tokenizers, need extensions that ov-moe does not load.
    """
    return "MatMul" in types or not types.isdisjoint(_OUR_TYPES)


def size_of(root: Path, path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    whole = root / path
    return whole.stat().st_size if whole.exists() else 0
