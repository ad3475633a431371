"""``python -m ov_moe.bench``: the benchmark without the command ov-moe."""

from ov_moe.bench.cli import app

app(prog_name="python -m ov_moe.bench")
