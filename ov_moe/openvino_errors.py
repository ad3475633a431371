"""What OpenVINO refuses, in one sentence. Its own messages are some lines of source positions around what counts.

Does not import openvino.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ov_moe.errors import DeviceError, InvalidInputError, OvMoeError

_POSITION = re.compile(r"(Exception from|Check '.*' failed at) .*:\d+:?")
# The log of a program that does not build can be hundreds of lines.
_MOST_LINES = 4
# A name or an attribute of a broken file can be of any length, and a message repeats it.
_LONGEST_LINE = 240
_OF_THE_CALLER = re.compile(
    r"property|option not found|attention backend|argument|incorrect attribute|bad as from", re.IGNORECASE
)
_REORDER_FAULT = "_reorder_weights"
_AVOID_REORDER = (
    "that is a known fault of the GPU plugin with int4 weights of 8 experts, in unfused models too, which "
    "OV_MOE_VGPU_HOLD_SECONDS=10 avoids on the virtual GPU"
)


def message_of(error: BaseException) -> str:
    """The lines of a message that say what is wrong, in one and without a full stop; the type where there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not _POSITION.fullmatch(line)] or lines[-1:] or [type(error).__name__]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES // 2], *lines[-_MOST_LINES // 2 :]]
    return "; ".join(_printable(line.rstrip(".;!: ")) for line in lines)


def _printable(line: str) -> str:
    """A line without control characters, cut where it is too long."""
    shown = "".join(character if character.isprintable() else "_" for character in line[: _LONGEST_LINE + 1])
    return shown if len(line) <= _LONGEST_LINE else f"{shown[: _LONGEST_LINE - 3]}..."


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn a RuntimeError of OpenVINO inside the block into one of ov-moe's: "<what>: <what it says>; <what to do>."

    It is an InvalidInputError where a property or an argument is refused, else a DeviceError; what OpenVINO raised is
    its cause.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, OvMoeError):
            raise
        if _OF_THE_CALLER.search(str(error)):
            raise InvalidInputError(f"{what}: {message_of(error)}; correct that, or leave it out.") from error
        advice = _AVOID_REORDER if _REORDER_FAULT in str(error) else "ov-moe doctor looks at the device and its driver"
        raise DeviceError(f"{what}: {message_of(error)}; {advice}.") from error
