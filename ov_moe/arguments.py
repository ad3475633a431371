"""What a caller gives, checked; each refusal is one sentence. Does not import openvino."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from ov_moe.errors import InvalidInputError


def check_type(name: str, value: object, kind: type | tuple[type, ...], wanted: str) -> None:
    """Raise InvalidInputError unless a value is of a type, whose name for the reader is ``wanted``."""
    if not isinstance(value, kind):
        raise InvalidInputError(f"{name} is of type {type(value).__name__}, it must be {wanted}.")


def check_word(name: str, value: object, words: tuple[str, ...]) -> None:
    """Raise InvalidInputError unless a value is one of some words."""
    if value not in words:
        listed = ", ".join(map(repr, words[:-1])) + f" or {words[-1]!r}"
        raise InvalidInputError(f"{name} is {shown(value)}, it must be {listed}.")


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Raise InvalidInputError unless a value is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInputError(f"{name} is {value!r}, it must be a whole number from {low} to {high}.")


def to_path(name: str, value: object) -> Path:
    """A path that was given as text or as a path; raises InvalidInputError for anything else."""
    if not isinstance(value, str | PathLike):
        raise InvalidInputError(f"{name} is of type {type(value).__name__}, it must be a path.")
    return Path(value)


def shown(value: object) -> str:
    """A value for a sentence: quoted, without control characters, not too long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
