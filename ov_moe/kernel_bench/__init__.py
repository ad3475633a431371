"""The kernel benchmark: each row is checked against the oracle, then timed on an OpenCL device, side by side.

``app`` is a typer application with the one command ``bench``; ``python -m ov_moe.kernel_bench`` runs it alone.
"""

from ov_moe.kernel_bench.cli import app, bench

__all__ = ["app", "bench"]
