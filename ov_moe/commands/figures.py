"""Pictures: whether they can be drawn, asked before anything long is started."""

from __future__ import annotations

from pathlib import Path

from ov_moe.errors import InvalidInputError


def check_matplotlib() -> None:
    """Raise InvalidInputError where matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InvalidInputError(
            f"A plot needs matplotlib ({error}): `pip install matplotlib`, or leave the plot out."
        ) from error


def figure_format(path: Path) -> str:
    """The format that a file's suffix names, such as ``png``.

    Raises:
        InvalidInputError: matplotlib is missing, or writes no such format.
    """
    check_matplotlib()
    from matplotlib.backend_bases import FigureCanvasBase

    kind, known = path.suffix.removeprefix(".").lower(), FigureCanvasBase.get_supported_filetypes()
    if kind not in known:
        raise InvalidInputError(f"{path} names no format of pictures: end it with one of .{', .'.join(sorted(known))}.")
    return kind
