"""A fused block beside the GPU plugin's own fallback (no XMX), which computes every expert for every token.

One block of Qwen3-MoE's form with random weights and random routing, in one process and run, variants in A B B A order;
each result is checked against the float64 oracle first. On the virtual GPU only the ratios mean something, and the
plugin's own kernels are optimised as ours are, which the virtual GPU leaves out by default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import typer
from rich.table import Table

from ov_moe.commands.console import tables
from ov_moe.commands.options_record import command_from


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the command line."""

    experts: Annotated[int, typer.Option(help="E.")] = 128
    top_k: Annotated[int, typer.Option(help="k.")] = 8
    tokens: Annotated[int, typer.Option(help="T.")] = 512
    hidden: Annotated[int, typer.Option(help="H.")] = 512
    intermediate: Annotated[int, typer.Option(help="I.")] = 192
    precision: Annotated[str, typer.Option(help="Of the experts' weights.")] = "u4"
    rounds: Annotated[int, typer.Option(help="Rounds of A B B A.")] = 3


@dataclass
class Side:
    """The fallback or the fused block: compiled, the bytes that it holds after an inference, seconds of each run."""

    compiled: Any
    memory: float
    seconds: list[float]


def main(options: Options) -> None:
    """Print time and memory of both, and their ratios."""
    os.environ["OV_MOE_VGPU_FAST_BUILD"] = "0"
    from ov_moe import virtual_gpu

    virtual_gpu.start()
    import openvino as ov

    core = ov.Core()
    model, inputs, oracle = _block(options)
    stored = sum(node.get_byte_size() for node in model.get_ops() if isinstance(node, ov.op.Constant))
    sides = {name: _compile(core, model.clone(), name, inputs, oracle) for name in ("fallback", "fused")}
    for _ in range(options.rounds):
        for name in ("fallback", "fused", "fused", "fallback"):
            start = perf_counter()
            sides[name].compiled(inputs)
            sides[name].seconds.append(perf_counter() - start)
    _print(options, sides, stored, core.get_property("GPU", "FULL_DEVICE_NAME"))


def _block(options: Options) -> tuple[Any, dict[str, Any], Any]:
    """The model of one block, inputs for it, and what the oracle makes of them."""
    import numpy as np

    from ov_moe import reference
    from ov_moe.testing.graphs import moe_block_model

    rng, tokens, experts, top_k = np.random.default_rng(0), options.tokens, options.experts, options.top_k
    model, weights = moe_block_model(
        rng=rng,
        experts=experts,
        top_k=top_k,
        hidden=options.hidden,
        intermediate=options.intermediate,
        precision=options.precision,  # type: ignore[arg-type]
        topk_as_inputs=True,
    )
    inputs = {
        "x": rng.standard_normal((tokens, options.hidden)).astype(np.float32),
        "ids": np.argsort(rng.random((tokens, experts)))[:, :top_k].astype(np.int32),
        "weights": rng.random((tokens, top_k)).astype(np.float32),
    }
    parts = (weights[0].gate, weights[0].up, weights[0].down)
    return model, inputs, reference.moe(inputs["x"], inputs["ids"], inputs["weights"], *parts)


def _compile(core: Any, model: Any, name: str, inputs: dict[str, Any], oracle: Any) -> Side:
    """Compile a variant and run it once; ends the script where it is wrong."""
    import numpy as np

    import ov_moe
    from ov_moe import virtual_gpu

    config = {"INFERENCE_PRECISION_HINT": "f32"}
    virtual_gpu.reset()
    held = _held()
    if name == "fused":
        ov_moe.optimize(model, "on")
        compiled = ov_moe.compile_model(core, model, "GPU", config)
    else:
        compiled = core.compile_model(model, "GPU", config)
    y = compiled(inputs)[0]
    error = np.abs(y - oracle).max() / np.abs(oracle).max()
    if not error < 1e-4:
        raise SystemExit(f"{name}: error {error:.1e} of the largest output, nothing is timed.")
    return Side(compiled, _held() - held, [])


def _held() -> int:
    from ov_moe import virtual_gpu

    return sum(kind.live_bytes for kind in virtual_gpu.snapshot().allocations.values())


def _print(options: Options, sides: Mapping[str, Side], stored: int, device: str) -> None:
    experts, top_k, fused = options.experts, options.top_k, sides["fused"]
    table = Table(
        title=f"E {experts}, k {top_k}, T {options.tokens}, H {options.hidden}, I {options.intermediate}, "
        f"{options.precision}"
    )
    for column in ("variant", "time / fused", "memory / fused", "memory, MB"):
        table.add_column(column)
    for name, side in sides.items():
        ratio = median(side.seconds) / median(fused.seconds)
        table.add_row(name, f"{ratio:.1f}", f"{side.memory / fused.memory:.1f}", f"{side.memory / 1e6:.1f}")
    console = tables(132)
    console.print(table)
    console.print(
        f"Medians of {2 * options.rounds}. Experts computed for a token: {experts} by the fallback, {top_k} by the "
        f"fused one. Memory: held after an inference; of the weights {stored / 1e6:.1f} MB are stored."
    )
    console.print(f"Device: {device}; memory counted by the virtual GPU.")


if __name__ == "__main__":
    typer.run(command_from(Options, main))
