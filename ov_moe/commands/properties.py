"""KEY=VALUE pairs of a command line."""

from __future__ import annotations

from ov_moe.errors import InvalidInputError


def parse_properties(pairs: list[str]) -> dict[str, str]:
    """Properties for ``compile_model``; raises InvalidInputError for anything but KEY=VALUE."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals or not value:
            raise InvalidInputError(f"The property {pair!r} is no KEY=VALUE.")
        found[key] = value
    return found
