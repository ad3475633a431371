"""Records how many tokens each expert gets, and shows what that means: ``ov-moe trace``.

Opt-in: only a clone of a rewritten model is traced, the model itself stays as it is. Importing this package does not
import openvino.
"""

from __future__ import annotations

from ov_moe.trace.app import app

__all__ = ["app"]
