"""What a check found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """One row of the doctor's report.

    Attributes:
        level: ``ok``, ``note`` (good to know), ``warning`` (works, with a price), ``failed`` (does not work).
        check: What was looked at.
        found: What there is.
        advice: What to do; empty where nothing is to be done.
    """

    level: Level
    check: str
    found: str
    advice: str = ""
