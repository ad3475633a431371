"""Ends a command with one sentence on stderr and exit status 1 where it cannot go on; never with a traceback."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from ov_moe.errors import OvMoeError


class InterruptedRunError(OvMoeError):
    """The user, or the system, asked the run to stop."""


@contextmanager
def one_sentence(interrupted: str = "Interrupted: nothing was written.") -> Iterator[None]:
    """Turn errors, Ctrl-C and SIGTERM inside the block into one sentence and exit status 1.

    Args:
        interrupted: The sentence for Ctrl-C and SIGTERM.
    """
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    except OvMoeError as error:
        _say(str(error))
    except KeyboardInterrupt:
        _say(interrupted)
    except BrokenPipeError:
        # Whoever read the output has left; what Python still wants to flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(1) from None
    except OSError as error:
        _say(f"{error.filename or 'The system'}: {error.strerror or error}.")
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(sentence: str) -> None:
    typer.echo(f"ov-moe: {sentence}", err=True)
    raise typer.Exit(1) from None


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
