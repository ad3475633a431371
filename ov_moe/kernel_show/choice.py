"""Which program the product composes for a stage of a block on a device, and why that one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.block_program import ACTIVATIONS, Rows, block_program, largest_buffer
from ov_moe.kernels.choose import AUTO_BALANCE_EXPERTS, choose_micro_kernel, choose_model_config
from ov_moe.kernels.compose import compiler_options
from ov_moe.kernels.config import ADDRESSED_BY_32_BITS, LARGE_BUFFERS, STANDARD, KernelConfig
from ov_moe.kernels.geometry import local_size
from ov_moe.kernels.stages import COMBINE, DOWN, ROUTE, Stage, for_decode
from ov_moe.spec import DeviceInfo, Switches, Workload

STAGES = ("route", "gate_up", "down", "combine")


@dataclass(frozen=True)
class Choice:
    """A stage, what its program is composed of, and the reasons.

    Attributes:
        stage: The stage.
        block: The block.
        rows: NumPy type of x, h, d and y.
        config: The kernel configuration.
        why_schedule: Why it has its schedule.
        why_micro: Why it has its micro-kernel.
    """

    stage: Stage
    block: BlockSpec
    rows: Rows
    config: KernelConfig
    why_schedule: str
    why_micro: str

    def text(self) -> str:
        """The complete program."""
        return block_program(self.stage, self.config, self.block, self.rows)

    def options(self, standard: str = STANDARD) -> tuple[str, ...]:
        """Options of the OpenCL compiler, the language's ``standard`` first."""
        large = largest_buffer(self.block, self.rows) > ADDRESSED_BY_32_BITS
        own = compiler_options(self.stage, self.config)
        return (standard, *own, *([LARGE_BUFFERS] if large else []))

    def reasons(self) -> Iterator[tuple[str, str]]:
        """What was chosen, and why: names and sentences."""
        block, micro = self.block, self.config.micro
        weights = block.down if self.stage.runs(DOWN) else block.gate
        yield "kernel", f"{self.stage.entry} of {self.stage.op_type}, {local_size(self.stage, self.config)} work-items"
        yield (
            "block",
            f"H {block.hidden}, I {block.intermediate}, {block.experts} experts, top {block.top_k}; {weights.label()}; "
            f"{self.rows}, room for {block.max_tokens} tokens",
        )
        if not self.stage.multiplies:
            known = f"TILE_M {micro.tile_m}" if self.stage.runs(ROUTE) else f"TILE_N {micro.tile_n}"
            yield "micro-kernel", f"none in this stage, which knows {known} of {micro.name} ({self.why_micro})"
            return
        pool = f"pool, tasks by {self.config.fetch}"
        yield "schedule", f"{pool if self.config.schedule == 'pool' else 'grid'} ({self.why_schedule})"
        stands_in = micro.half_only and ACTIVATIONS[self.rows] != "f16"
        instead = f"; rows are {self.rows}, so fma computes in its tiles" if stands_in else ""
        yield "micro-kernel", f"{micro.name} ({self.why_micro}{instead})"
        sizes = (f"{name} {value}" for name, value in micro.settings().items() if name != "micro_kernel")
        yield "tiles", ", ".join(sizes)


def choose(stage: str, block: BlockSpec, rows: Rows, device: DeviceInfo, switches: Switches, few: bool) -> Choice:
    """The product's choice.

    Args:
        stage: One of STAGES.
        block: The block.
        rows: NumPy type of x, h, d and y.
        device: Where it is to run.
        switches: The user's.
        few: Whether it is for few tokens.

    Raises:
        InvalidInputError: A switch holds another word, or ``dpas`` is asked for without XMX.
    """
    steps = {"route": ROUTE, "gate_up": block.gate_up_stage, "down": DOWN, "combine": COMBINE}
    step = for_decode(steps[stage]) if few else steps[stage]
    work = Workload(
        block.max_tokens,
        block.experts,
        block.top_k,
        block.hidden,
        block.intermediate,
        block.gate.precision,
        ACTIVATIONS[rows],
    )
    config = choose_model_config(work, work, device, switches).of(step)
    _, why_micro = choose_micro_kernel(replace(work, few=few), device, switches.micro_kernel)
    auto = f"auto: {block.experts} experts, and the pool is taken from {AUTO_BALANCE_EXPERTS} on"
    asked = auto if switches.balance == "auto" else "asked for"
    return Choice(step, block, rows, config, "few tokens always have it" if few else asked, why_micro)
