"""A fused block beside the GPU plugin's own fallback (no XMX), which computes every expert for every token.

One block of Qwen3-MoE's form with random weights and random routing, in one process and run, variants in A B B A order;
each result is checked against the float64 oracle first. On the virtual GPU only the ratios mean something, and the
plugin's own kernels are optimised as ours are, which the virtual GPU leaves out by default.
"""

from __future__ import annotations

import os
from statistics import median
from time import perf_counter
from typing import Annotated

import typer


def main(
    experts: Annotated[int, typer.Option(help="E.")] = 128,
    top_k: Annotated[int, typer.Option(help="k.")] = 8,
    tokens: Annotated[int, typer.Option(help="T.")] = 512,
    hidden: Annotated[int, typer.Option(help="H.")] = 512,
    intermediate: Annotated[int, typer.Option(help="I.")] = 192,
    precision: Annotated[str, typer.Option(help="Of the experts' weights.")] = "u4",
    rounds: Annotated[int, typer.Option(help="Rounds of A B B A.")] = 3,
) -> None:
    """Print time and memory of both, and their ratios."""
    os.environ["OV_MOE_VGPU_FAST_BUILD"] = "0"
    from ov_moe import virtual_gpu

    virtual_gpu.start()
    import numpy as np
    import openvino as ov
    from rich.console import Console
    from rich.table import Table

    import ov_moe
    from ov_moe import reference
    from ov_moe.testing.graphs import moe_block_model

    rng = np.random.default_rng(0)
    model, weights = moe_block_model(
        rng=rng,
        experts=experts,
        top_k=top_k,
        hidden=hidden,
        intermediate=intermediate,
        precision=precision,  # type: ignore[arg-type]
        topk_as_inputs=True,
    )
    inputs = {
        "x": rng.standard_normal((tokens, hidden)).astype(np.float32),
        "ids": np.argsort(rng.random((tokens, experts)))[:, :top_k].astype(np.int32),
        "weights": rng.random((tokens, top_k)).astype(np.float32),
    }
    stored = sum(node.get_byte_size() for node in model.get_ops() if isinstance(node, ov.op.Constant))
    parts = (weights[0].gate, weights[0].up, weights[0].down)
    oracle = reference.moe(inputs["x"], inputs["ids"], inputs["weights"], *parts)
    core, config = ov.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    compiled: dict[str, ov.CompiledModel] = {}
    memory: dict[str, float] = {}
    times: dict[str, list[float]] = {"fallback": [], "fused": []}
    for name in times:
        virtual_gpu.reset()
        held = sum(kind.live_bytes for kind in virtual_gpu.snapshot().allocations.values())
        variant = model.clone()
        if name == "fused":
            ov_moe.optimize(variant, "on")
            compiled[name] = ov_moe.compile_model(core, variant, "GPU", config)
        else:
            compiled[name] = core.compile_model(variant, "GPU", config)
        y = compiled[name](inputs)[0]
        error = np.abs(y - oracle).max() / np.abs(oracle).max()
        if not error < 1e-4:
            raise SystemExit(f"{name}: error {error:.1e} of the largest output, nothing is timed.")
        memory[name] = sum(kind.live_bytes for kind in virtual_gpu.snapshot().allocations.values()) - held
    for _ in range(rounds):
        for name in ("fallback", "fused", "fused", "fallback"):
            start = perf_counter()
            compiled[name](inputs)
            times[name].append(perf_counter() - start)

    console = Console(width=132)
    table = Table(title=f"E {experts}, k {top_k}, T {tokens}, H {hidden}, I {intermediate}, {precision}")
    for column in ("variant", "time / fused", "memory / fused", "memory, MB"):
        table.add_column(column)
    for name, seconds in times.items():
        ratio = median(seconds) / median(times["fused"])
        table.add_row(name, f"{ratio:.1f}", f"{memory[name] / memory['fused']:.1f}", f"{memory[name] / 1e6:.1f}")
    console.print(table)
    console.print(
        f"Medians of {2 * rounds}. Experts computed for a token: {experts} by the fallback, {top_k} by the fused one. "
        f"Memory: held after an inference; of the weights {stored / 1e6:.1f} MB are stored."
    )
    console.print(f"Device: {core.get_property('GPU', 'FULL_DEVICE_NAME')}; memory counted by the virtual GPU.")


if __name__ == "__main__":
    typer.run(main)
