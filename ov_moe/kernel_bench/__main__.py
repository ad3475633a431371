"""``python -m ov_moe.kernel_bench``: the benchmark without the command ov-moe."""

from ov_moe.kernel_bench.cli import app

app(prog_name="python -m ov_moe.kernel_bench")
