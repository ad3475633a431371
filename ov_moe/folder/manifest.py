"""The list of what ov-moe wrote into a folder, left in it: only what is on it, unchanged, may be replaced later."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

from ov_moe.errors import InvalidInputError
from ov_moe.storage.drafts import write_new

MANIFEST = "ov_moe_manifest.json"
CHUNK = 8 << 20
_SCHEMA = 1
_MOST_BYTES = 64 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """What a file holds: its size in bytes and the SHA-256 of its content, as 64 hex digits."""

    size: int
    sha256: str


def entry_of(path: Path, take: Callable[[bytes], object] = len) -> Entry:
    """Read a file in chunks, each of which ``take`` gets as well. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            take(chunk)
            digest.update(chunk)
            size += len(chunk)
    return Entry(size, digest.hexdigest())


def write_manifest(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Leave the list in a folder; keys are paths relative to it, with slashes. Raises OSError."""
    content = {
        "schema": _SCHEMA,
        "ov_moe": _version(),
        "files": {path: asdict(entry) for path, entry in sorted(entries.items())},
    }
    write_new(folder / MANIFEST, json.dumps(content, indent=1).encode())


def read_manifest(folder: Path) -> dict[str, Entry]:
    """The list that a folder holds.

    Raises:
        InvalidInputError: It is not what ``write_manifest`` writes.
        OSError: It cannot be read.
    """
    path = folder / MANIFEST
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise ValueError("it is too large")
        return _parse(json.loads(text, object_pairs_hook=_once))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"{path} is not as ov-moe writes it ({error}), so that --force does not replace {folder}: "
            "move that folder away, or name another one."
        ) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _parse(content: Any) -> dict[str, Entry]:
    if not isinstance(content, dict) or set(content) != {"schema", "ov_moe", "files"}:
        raise ValueError("it needs schema, ov_moe and files, and nothing else")
    if type(content["schema"]) is not int or content["schema"] != _SCHEMA:
        raise ValueError(f"its schema is {content['schema']!r}, this version of ov-moe knows {_SCHEMA}")
    if not isinstance(content["ov_moe"], str) or not isinstance(content["files"], dict):
        raise ValueError("ov_moe is a text and files an object")
    return {_path(path): _entry(path, value) for path, value in content["files"].items()}


def _path(text: str) -> str:
    path = PurePosixPath(text)
    if str(path) != text or path.is_absolute() or ".." in path.parts or text in (".", MANIFEST) or "\0" in text:
        raise ValueError(f"{text!r} is no path of a file in the folder")
    return text


def _entry(path: str, value: Any) -> Entry:
    good = isinstance(value, dict) and set(value) == {"size", "sha256"}
    if not good or type(value["size"]) is not int or value["size"] < 0 or not isinstance(value["sha256"], str):
        raise ValueError(f"{path!r} needs a size and a sha256")
    if not _DIGEST.fullmatch(value["sha256"]):
        raise ValueError(f"the sha256 of {path!r} is not 64 hex digits")
    return Entry(value["size"], value["sha256"])


def _version() -> str:
    try:
        return version("ov-moe")
    except PackageNotFoundError:  # run from its sources
        return "unknown"
