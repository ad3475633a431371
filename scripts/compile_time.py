"""How the compile time of a deep model divides, what is built later, and what padding costs a decode step.

A model of blocks alone with tiny weights. Programs are built one after the other, so that their times add up; without
``--cached`` every program is built afresh. On the virtual GPU the counts are those of a GPU, the times a CPU's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ov_moe.commands.console import tables
from ov_moe.commands.options_record import command_from

if TYPE_CHECKING:
    from ov_moe.virtual_gpu import Build


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the command line."""

    layers: Annotated[int, typer.Option(help="Blocks, one behind the other.")] = 48
    experts: Annotated[int, typer.Option(help="E.")] = 8
    top_k: Annotated[int, typer.Option(help="k.")] = 2
    hidden: Annotated[int, typer.Option(help="H.")] = 64
    intermediate: Annotated[int, typer.Option(help="I.")] = 32
    max_tokens: Annotated[int, typer.Option(help="Tokens of a chunk.")] = 512
    few_tokens: Annotated[int, typer.Option(help="Room of a decode step.")] = 64
    cached: Annotated[bool, typer.Option("--cached", help="Take programs that earlier processes built.")] = False


def main(options: Options) -> None:
    """Print builds and seconds at compile time, builds after warm-up, and bytes of padding."""
    if not options.cached:
        os.environ["OV_MOE_VGPU_CACHE"] = ""
    from ov_moe import virtual_gpu

    virtual_gpu.start()
    import numpy as np
    import openvino as ov

    import ov_moe
    from ov_moe.testing.graphs import moe_block_model

    rng, core = np.random.default_rng(0), ov.Core()
    sizes: dict[str, Any] = {name: getattr(options, name) for name in ("experts", "top_k", "hidden", "intermediate")}
    model, _ = moe_block_model(rng=rng, blocks=options.layers, **sizes)
    start = perf_counter()
    ov_moe.optimize(model, max_tokens=options.max_tokens, few_tokens=options.few_tokens)
    optimized = perf_counter()
    padding = _padding(core, model.clone(), np.zeros((1, 1, options.hidden), np.float32))
    config = {"INFERENCE_PRECISION_HINT": "f32", "COMPILATION_NUM_THREADS": 1}
    virtual_gpu.reset()
    begin = perf_counter()
    compiled = ov_moe.compile_model(core, model, "GPU", config)
    wall = perf_counter() - begin
    built = virtual_gpu.snapshot().builds

    console = tables(132)
    console.print(_table(options, wall, built))
    console.print(f"Rewriting took {optimized - start:.2f} s before.")
    _print_later(console, compiled, options, rng)
    console.print(f"Padding copies {padding / 1e6:.3f} MB in a decode step.")
    console.print(f"Device: {core.get_property('GPU', 'FULL_DEVICE_NAME')}.")


def _table(options: Options, wall: float, built: Sequence[Build]) -> Table:
    """What the seconds of compiling went into."""
    table = Table(
        title=f"{options.layers} layers, E {options.experts}, k {options.top_k}, H {options.hidden}, "
        f"I {options.intermediate}; {wall:.1f} s to compile"
    )
    for column in ("part", "programs", "seconds", "share"):
        table.add_column(column, justify="left" if column == "part" else "right")
    ours = [build for build in built if any(name.startswith("ov_moe_") for name in build.kernels)]
    others = [build for build in built if build not in ours]
    seconds = [sum(build.seconds for build in some) for some in (ours, others)]
    rows = [("ov-moe's kernels", len(ours), seconds[0]), ("the plugin's kernels", len(others), seconds[1])]
    for part, count, spent in [*rows, ("the rest: graph passes, memory", 0, wall - sum(seconds))]:
        table.add_row(part, str(count or ""), f"{spent:.1f}", f"{spent / wall:.0%}")
    return table


def _print_later(console: Console, compiled: Any, options: Options, rng: Any) -> None:
    """What is built, and called in Python, after a warm-up."""
    import numpy as np

    import ov_moe
    from ov_moe import virtual_gpu

    def random(length: int) -> dict[str, Any]:
        return {"x": 0.05 * rng.standard_normal((1, length, options.hidden)).astype(np.float32)}

    ov_moe.warmup(compiled, inputs=[random(1), random(options.few_tokens + 1)], progress=False)
    calls = _count_calls()
    virtual_gpu.reset()
    lengths = [int(length) for length in rng.integers(1, 3 * options.few_tokens, 50)]
    for length in (*lengths, *[1] * 50):
        compiled(random(length))
    later = virtual_gpu.snapshot()
    console.print(
        "After a warm-up of two inferences, over 50 random prompts and 50 decode steps: "
        f"{len(later.builds_of('ov_moe_'))} programs of ov-moe built, {len(calls)} calls of Python. "
        f"The plugin built {len(later.builds)} of its own."
    )


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
    typer.run(command_from(Options, main))
