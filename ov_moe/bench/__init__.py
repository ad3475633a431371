"""End-to-end latency of a model, rewritten and not: ``ov-moe bench``. Importing it does not import openvino."""

from __future__ import annotations

from ov_moe.bench.app import command

__all__ = ["command"]
