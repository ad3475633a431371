"""A signal stops a command as such, whatever the code that it interrupts makes of it."""

from __future__ import annotations

import os
import signal
import time

import pytest
import typer

from ov_moe.commands.guard import NOTHING_WRITTEN, one_sentence
from ov_moe.commands.stop import IncompleteError, Stop
from ov_moe.errors import DeviceError

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def interrupted_inside_a_callback(number: signal.Signals, kind: type[Exception]) -> None:
    """What OpenVINO does where Python computes an operation: the interruption comes out as an error of its own."""
    try:
        os.kill(os.getpid(), number)
        time.sleep(60)
    except KeyboardInterrupt as interrupt:
        raise kind(f"Exception from node.cpp:1:\nNode MoERoute: KeyboardInterrupt: {interrupt.args[0]}") from None


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", [DeviceError, RuntimeError, KeyboardInterrupt])
def test_the_status_is_the_signals(
    number: signal.Signals, kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as end, one_sentence():
        interrupted_inside_a_callback(number, kind)
    assert end.value.exit_code == 128 + number
    assert capsys.readouterr().err == f"ov-moe: {NOTHING_WRITTEN}\n"


@pytest.mark.parametrize("number", NUMBERS)
def test_what_was_complete_is_said_with_it(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        try:
            interrupted_inside_a_callback(number, RuntimeError)
        except RuntimeError as error:
            raise IncompleteError(Stop.by(error), "2 of 3 turns") from None

    with pytest.raises(typer.Exit) as end, one_sentence():
        command()
    assert end.value.exit_code == 128 + number
    assert capsys.readouterr().err == "ov-moe: Interrupted. Shown and written is what was complete: 2 of 3 turns.\n"


def test_the_next_command_of_a_process_is_not_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), one_sentence():
        interrupted_inside_a_callback(signal.SIGTERM, DeviceError)
    with pytest.raises(typer.Exit) as end, one_sentence():
        raise DeviceError("No device.")
    assert end.value.exit_code == 1
    assert capsys.readouterr().err.splitlines()[-1] == "ov-moe: No device."
