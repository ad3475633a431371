"""Ends a command with one sentence on stderr where it cannot go on, or is asked to stop; never with a traceback."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ov_moe.commands.stop import IncompleteError, Signals
from ov_moe.errors import OvMoeError
from ov_moe.openvino_errors import message_of

_OF_OPENVINO = "Exception from "  # a source position stands behind it
NOTHING_WRITTEN = "Interrupted: nothing was written."


@contextmanager
def one_sentence(interrupted: str = NOTHING_WRITTEN) -> Iterator[None]:
    """Turn errors inside the block into one sentence and exit status 1, and signals that ask to stop into 128 + signal.

    The first signal raises KeyboardInterrupt; others are ignored while that cleans up. A signal that is ignored already
    stays so: nohup asks for that.

    Args:
        interrupted: The sentence for Ctrl-C, SIGTERM and SIGHUP.
    """
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]

    def stop(number: int, _frame: object) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        Signals.received = number
        raise KeyboardInterrupt(number)

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except IncompleteError as error:
        _say(str(error), error.status)
    except KeyboardInterrupt:
        _say(interrupted, Signals.status())
    except OvMoeError as error:
        _say_unless_stopped(str(error), interrupted)
    except BrokenPipeError:
        _let_go_of_stdout()  # whoever read it has left
        raise typer.Exit(1) from None
    except (typer.Exit, typer.Abort):
        raise
    except RuntimeError as error:
        if _OF_OPENVINO not in str(error):
            raise
        _say_unless_stopped(f"OpenVINO says: {message_of(error)}.", interrupted)
    except OSError as error:
        if not error.filename:
            _let_go_of_stdout()
        _say(f"{error.filename or 'Standard output, or another stream'}: {error.strerror or error}.")
    finally:
        Signals.received = None
        for number, handler in before.items():
            signal.signal(number, handler)


def _let_go_of_stdout() -> None:
    """What Python still wants to flush at its end goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _say_unless_stopped(sentence: str, interrupted: str) -> None:
    """Say what went wrong, or, where a signal came before it, that: the error is what became of the interruption."""
    if Signals.received is None:
        _say(sentence)
    _say(interrupted, Signals.status())


def _say(sentence: str, status: int = 1) -> None:
    typer.echo(f"ov-moe: {sentence}", err=True)
    raise typer.Exit(status) from None
