"""Looks at the machine and says what ov-moe will do on it: ``ov-moe doctor``. Importing it does not import openvino."""

from __future__ import annotations

from ov_moe.doctor.app import command

__all__ = ["command"]
