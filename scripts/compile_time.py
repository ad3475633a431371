"""How the compile time of a deep model divides, what is built later, and what padding costs a decode step.

A model of blocks alone with tiny weights. Programs are built one after the other, so that their times add up; without
``--cached`` every program is built afresh. On the virtual GPU the counts are those of a GPU, the times a CPU's.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import Annotated, Any

import typer


def main(
    layers: Annotated[int, typer.Option(help="Blocks, one behind the other.")] = 48,
    experts: Annotated[int, typer.Option(help="E.")] = 8,
    top_k: Annotated[int, typer.Option(help="k.")] = 2,
    hidden: Annotated[int, typer.Option(help="H.")] = 64,
    intermediate: Annotated[int, typer.Option(help="I.")] = 32,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a chunk.")] = 512,
    few_tokens: Annotated[int, typer.Option(help="Room of a decode step.")] = 64,
    cached: Annotated[bool, typer.Option("--cached", help="Take programs that earlier processes built.")] = False,
) -> None:
    """Print builds and seconds at compile time, builds after warm-up, and bytes of padding."""
    if not cached:
        os.environ["OV_MOE_VGPU_CACHE"] = ""
    from ov_moe import virtual_gpu

    virtual_gpu.start()
    import numpy as np
    import openvino as ov
    from rich.console import Console
    from rich.table import Table

    import ov_moe
    from ov_moe.testing.graphs import moe_block_model

    rng, core = np.random.default_rng(0), ov.Core()
    sizes: dict[str, Any] = {"experts": experts, "top_k": top_k, "hidden": hidden, "intermediate": intermediate}
    model, _ = moe_block_model(rng=rng, blocks=layers, **sizes)
    start = perf_counter()
    ov_moe.optimize(model, max_tokens=max_tokens, few_tokens=few_tokens)
    optimized = perf_counter()
    padding = _padding(core, model.clone(), np.zeros((1, 1, hidden), np.float32))
    config = {"INFERENCE_PRECISION_HINT": "f32", "COMPILATION_NUM_THREADS": 1}
    virtual_gpu.reset()
    begin = perf_counter()
    compiled = ov_moe.compile_model(core, model, "GPU", config)
    wall = perf_counter() - begin
    built = virtual_gpu.snapshot()
    ours = built.builds_of("ov_moe_")
    others = [build for build in built.builds if build not in ours]

    def random(length: int) -> dict[str, Any]:
        return {"x": 0.05 * rng.standard_normal((1, length, hidden)).astype(np.float32)}

    ov_moe.warmup(compiled, inputs=[random(1), random(few_tokens + 1)], progress=False)
    calls = _count_calls()
    virtual_gpu.reset()
    lengths = [int(length) for length in rng.integers(1, 3 * few_tokens, 50)]
    for length in (*lengths, *[1] * 50):
        compiled(random(length))
    later = virtual_gpu.snapshot()

    console = Console(width=132)
    table = Table(
        title=f"{layers} layers, E {experts}, k {top_k}, H {hidden}, I {intermediate}; {wall:.1f} s to compile"
    )
    for column in ("part", "programs", "seconds", "share"):
        table.add_column(column, justify="left" if column == "part" else "right")
    seconds = [sum(build.seconds for build in some) for some in (ours, others)]
    rows = [("ov-moe's kernels", len(ours), seconds[0]), ("the plugin's kernels", len(others), seconds[1])]
    for part, count, spent in [*rows, ("the rest: graph passes, memory", 0, wall - sum(seconds))]:
        table.add_row(part, str(count or ""), f"{spent:.1f}", f"{spent / wall:.0%}")
    console.print(table)
    console.print(f"Rewriting took {optimized - start:.2f} s before.")
    console.print(
        "After a warm-up of two inferences, over 50 random prompts and 50 decode steps: "
        f"{len(later.builds_of('ov_moe_'))} programs of ov-moe built, {len(calls)} calls of Python. "
        f"The plugin built {len(later.builds)} of its own."
    )
    console.print(f"Padding copies {padding / 1e6:.3f} MB in a decode step.")
    console.print(f"Device: {core.get_property('GPU', 'FULL_DEVICE_NAME')}.")


def _padding(core: Any, model: Any, x: Any) -> int:
    """Bytes that the Pad operations of a rewritten model write for an input: each becomes an output, on the CPU."""
    import openvino as ov

    import ov_moe

    pads = [node.output(0) for node in model.get_ops() if node.get_type_name() == "Pad"]
    shown = ov_moe.compile_model(core, ov.Model(pads, model.get_parameters()), "CPU")
    request = shown.create_infer_request()
    request.infer([x])
    return sum(request.get_output_tensor(number).byte_size for number in range(len(pads)))


def _count_calls() -> list[str]:
    """From here on, the Python methods that OpenVINO calls on our operations."""
    from ov_moe.ops.base import MoEOp

    calls: list[str] = []
    for name in ("validate_and_infer_types", "evaluate", "clone_with_new_inputs", "visit_attributes"):
        setattr(MoEOp, name, lambda self, *_, name=name: calls.append(name))
    return calls


if __name__ == "__main__":
    typer.run(main)
