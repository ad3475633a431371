"""Where commands print: tables on standard output, progress on standard error."""

from __future__ import annotations

from rich.console import Console


def tables(width: int, *, soft_wrap: bool = False) -> Console:
    """Standard output, which has the terminal's width.

    Args:
        width: Columns where it goes to a file or a pipe, wide enough for the tables.
        soft_wrap: Whether longer lines are left whole there.
    """
    console = Console()
    return console if console.is_terminal else Console(width=width, soft_wrap=soft_wrap)


def messages() -> Console:
    """Standard error, for what is not the result."""
    return Console(stderr=True, highlight=False)
