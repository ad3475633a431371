"""End-to-end latency of a model, rewritten and not: ``ov-moe bench`` as a script. ``--help`` lists the options."""

from __future__ import annotations

import typer

from ov_moe.bench import command

if __name__ == "__main__":
    typer.run(command)
