"""What is left of OpenVINO's messages, and the errors that they become."""

from __future__ import annotations

import re

import pytest

import ov_moe
from ov_moe.errors import DeviceError, InvalidInputError, OvMoeError
from ov_moe.openvino_errors import message_of, translated

POSITIONS = "Exception from src/core.cpp:117:\nCheck 'a != b' failed at src/x.hpp:9:\n"


@pytest.mark.parametrize(
    ("message", "left"),
    [
        (f"{POSITIONS}Option not found: FOO\n\n\n", "Option not found: FOO"),
        (f"{POSITIONS}Invalid value: a.\nSupported values: b!\n", "Invalid value: a; Supported values: b"),
        ("one\n" + "log\n" * 300 + "two\nthree", "one; log; two; three"),
        ("Exception from src/core.cpp:117:\n", "Exception from src/core.cpp:117"),
        ("", "RuntimeError"),
    ],
)
def test_positions_go_and_what_is_wrong_stays(message: str, left: str) -> None:
    assert message_of(RuntimeError(message)) == left


@pytest.mark.parametrize(
    ("message", "kind", "sentence"),
    [
        (f"{POSITIONS}Option not found: FOO", InvalidInputError, "It fails: Option not found: FOO; correct that, or"),
        (f"{POSITIONS}out of memory", DeviceError, "It fails: out of memory; ov-moe doctor looks at the device"),
        ("no kernel for _reorder_weights", DeviceError, "which OV_MOE_VGPU_HOLD_SECONDS=10 avoids on the virtual GPU."),
    ],
)
def test_a_refusal_is_one_sentence_with_its_cause(message: str, kind: type[OvMoeError], sentence: str) -> None:
    with pytest.raises(kind, match=re.escape(sentence)) as caught, translated("It fails"):
        raise RuntimeError(message)
    assert "\n" not in str(caught.value)
    assert str(caught.value.__cause__) == message


@pytest.mark.parametrize("error", [DeviceError("ours"), InvalidInputError("ours"), KeyError("a fault")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translated("It fails"):
        raise error
    assert caught.value is error


def test_a_message_that_repeats_a_hostile_file_stays_a_sentence() -> None:
    """A name or an attribute of a file can be of any length, and hold what moves a terminal's cursor."""
    found = message_of(RuntimeError(f"Unsupported type {'x' * 100_000}\nname \x1b[2J\u202e is unknown."))
    first, second = found.split("; ")
    assert len(first) == 240
    assert first.endswith("xxx...")
    assert second == "name _[2J_ is unknown"


def test_the_package_shows_what_it_offers() -> None:
    assert {*ov_moe.__all__, "virtual_gpu", "__version__"} <= set(dir(ov_moe))
