"""What rows with exponents cost where no value is beyond f16: the same kernels with and without, in turns.

Needs an OpenCL device (times mean something on a GPU alone) and no openvino. Every variant is checked against the
float64 oracle before it is timed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import typer

from ov_moe.devices.timing import TimingDevice, select_device
from ov_moe.errors import OvMoeError
from ov_moe.kernel_bench import oracle
from ov_moe.kernel_bench.case import Case, DeviceBlock, Run, random_inputs
from ov_moe.kernel_bench.check import check
from ov_moe.kernel_bench.distributions import draw_ids
from ov_moe.kernel_bench.measure import Flush, interleave, timed
from ov_moe.kernel_bench.schedules import find_schedule
from ov_moe.kernel_bench.shapes import block_spec, find_shape
from ov_moe.kernel_bench.weights import random_block
from ov_moe.kernels.choose import choose_config, decode_config, pool_groups
from ov_moe.kernels.micro import Gemv

# As the product chooses without matrix units: gemv for few tokens, fma for many.
_GEMV_TOKENS = 64
_STAGES = ("layer", "gate_up", "down", "combine")


def measure(device: TimingDevice, flush: Flush, shape_name: str, precision: str, tokens: int, seconds: float) -> None:
    """Print a line for each stage: medians in milliseconds, and their ratio."""
    shape, groups = find_shape(shape_name), pool_groups(device.info)
    few = tokens <= _GEMV_TOKENS
    many = choose_config("on", shape.experts, 1, groups=groups)
    config = replace(decode_config(groups), micro=Gemv()) if few else many
    block = random_block(np.random.default_rng(1), block_spec(shape, precision, 1))
    weights, rng = DeviceBlock(device, block), np.random.default_rng(2)
    x = rng.standard_normal((tokens, shape.hidden), np.float32).astype(np.float16)
    ids = draw_ids("power1.2", tokens, shape.experts, shape.top_k, 0)
    inputs = random_inputs(rng, ids, tokens, x)
    sample = oracle.sample(rng, inputs.x, ids, inputs.weights)
    exact = oracle.expected(block, [sample])[0]
    spec = block_spec(shape, precision, tokens)
    runs = []
    for one in (spec, replace(spec, h_exponents=False, d_exponents=False)):
        runs.append(Run(Case(device, weights, one, inputs), find_schedule("pool-ticket"), config))
        found = check(runs[-1], sample.tokens, exact)
        if found.why:
            raise OvMoeError(found.why)
    for stage in _STAGES:
        some, none = interleave([timed(run, stage, flush) for run in runs], 12, seconds)
        typer.echo(
            f"{shape_name} {precision} {config.micro.name} T={tokens} {stage}: {some.median:.5f} ms with, "
            f"{none.median:.5f} without, ratio {some.median / none.median:.3f}"
        )
    weights.release()


def main(
    tokens: Annotated[str, typer.Option(help="Numbers of tokens, separated by commas.")] = "1,16,128,512,2048",
    device: Annotated[str, typer.Option(help="As for ov-moe kernels bench.")] = "auto",
    seconds: Annotated[float, typer.Option(help="Of each variant.")] = 0.8,
) -> None:
    """Time rows with exponents beside rows without, for Qwen3-30B in u4 and GPT-OSS-20B in mxfp4."""
    try:
        chosen = select_device(device)
        typer.echo(chosen.name)
        flush = Flush(chosen)
        for shape, precision in (("qwen3-30b", "u4"), ("gpt-oss-20b", "f4e2m1")):
            for count in map(int, tokens.split(",")):
                measure(chosen, flush, shape, precision, count, seconds)
    except OvMoeError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
