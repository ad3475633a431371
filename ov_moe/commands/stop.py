"""Why a long run ended early, so that what it has found by then is shown and written all the same."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from ov_moe.errors import OvMoeError
from ov_moe.openvino_errors import message_of

# What a run that has found something is stopped by: any error, and the signals that guard.one_sentence turns into one.
STOPS = (Exception, KeyboardInterrupt)


class Signals:
    """What asks to stop: OpenVINO turns a KeyboardInterrupt inside a callback into an error of its own."""

    received: int | None = None

    @classmethod
    def status(cls) -> int:
        """What a command that was stopped ends with; as if by Ctrl-C where no signal was seen."""
        return 128 + (cls.received or signal.SIGINT)


@dataclass(frozen=True)
class Stop:
    """An early end.

    Attributes:
        reason: A sentence.
        status: What the command ends with.
    """

    reason: str
    status: int = 1

    @staticmethod
    def by(error: BaseException) -> Stop:
        """The end that an error or a signal brought."""
        if Signals.received is not None or isinstance(error, KeyboardInterrupt):
            return Stop("Interrupted.", Signals.status())
        if isinstance(error, OvMoeError):
            return Stop(str(error))
        if isinstance(error, OSError):
            return Stop(f"{error.filename or 'A stream'}: {error.strerror or error}.")
        lines = str(error).strip().splitlines() or ["it said nothing"]
        text = message_of(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {lines[-1]}"
        return Stop(text if text.endswith(".") else f"{text}.")


class IncompleteError(OvMoeError):
    """A run that did not come to its end; what it had found by then has been shown and written."""

    def __init__(self, stop: Stop, found: str) -> None:
        """``found``: what there was, as in "3 of 6 turns"."""
        super().__init__(f"{stop.reason} Shown and written is what was complete: {found}.")
        self.status = stop.status
