"""The device strings that ov-moe serves. Does not import openvino."""

from __future__ import annotations

import re

_SERVED = re.compile(r"CPU|(?:(?:AUTO|MULTI):)?(GPU(?:\.\d+)?)")


def plain_name(device: object) -> str | None:
    """``CPU``, ``GPU`` or ``GPU.n``, without an ``AUTO:`` or ``MULTI:`` before it; None for what is not served."""
    found = _SERVED.fullmatch(device) if isinstance(device, str) else None
    return found and (found[1] or found[0])
