"""Prints the program that a stage is built from: ``ov-moe kernels show``. Importing it does not import openvino."""

from __future__ import annotations

from ov_moe.kernel_show.app import command

__all__ = ["command"]
