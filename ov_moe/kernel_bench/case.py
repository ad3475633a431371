"""One block on a device with tokens, their routing and the buffers of a run; and how one schedule runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ov_moe.devices.opencl import Tensor
from ov_moe.devices.timing import Buffer, Event, Prepared, TimingDevice
from ov_moe.kernel_bench.distributions import counts_of
from ov_moe.kernel_bench.mma import Mma
from ov_moe.kernel_bench.schedules import Launch, Schedule, launches, with_schedule
from ov_moe.kernel_bench.weights import StoredBlock
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.compose import compiler_options, program
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.stages import COMBINE, DOWN, ROUTE, Stage

Described = tuple[tuple[int, ...], str]  # shape and NumPy type of a buffer

POISON = 0xFFFFFFFF  # NaN, as one f32 and as two f16


class DeviceBlock:
    """The weights of a block on a device, in the layouts asked for so far; every case of the block shares them."""

    def __init__(self, device: TimingDevice, block: StoredBlock) -> None:
        self.block, self._device = block, device
        self._inputs: dict[tuple[str, bool], tuple[list[Described], list[Buffer]]] = {}

    def inputs(self, stage: Stage, packed: bool) -> tuple[list[Described], list[Buffer]]:
        """The weights that a GEMM takes behind its rows and the plan: what they are, and their buffers."""
        name = "down" if stage is DOWN else "gate_up"
        key = (name, packed)
        if key not in self._inputs:
            arrays = getattr(self.block, f"{'packed_' if packed else ''}{name}_inputs")()
            self._inputs[key] = [_describe(array) for array in arrays], [self._device.upload(array) for array in arrays]
        return self._inputs[key]

    def release(self) -> None:
        """Give the memory back now."""
        for _, buffers in self._inputs.values():
            for buffer in buffers:
                buffer.release()
        self._inputs.clear()


@dataclass(frozen=True)
class Inputs:
    """The tokens of a case: x [TM, H], ids [TM, k] (-2 behind the last token) and top-k weights [TM, k]."""

    tokens: int
    x: Tensor
    ids: npt.NDArray[np.int32]
    weights: Tensor


class Case:
    """A block with tokens on a device, and the buffers that its stages write.

    Attributes:
        spec: The block, with ``max_tokens`` of the inputs.
        counts: Rows of each expert.
    """

    def __init__(self, device: TimingDevice, weights: DeviceBlock, spec: BlockSpec, inputs: Inputs) -> None:
        self.device, self.weights, self.spec, self.inputs = device, weights, spec, inputs
        self.counts = counts_of(inputs.ids, spec.experts)
        rows, element = spec.plan_layout.max_rows, inputs.x.dtype.itemsize
        self.shapes = {"h": (rows, spec.h_columns), "d": (rows, spec.d_columns), "y": (spec.max_tokens, spec.hidden)}
        self.buffers = {
            "ids": device.upload(inputs.ids),
            "x": device.upload(inputs.x),
            "weights": device.upload(inputs.weights),
            "plan": device.allocate(4 * spec.plan_layout.size),
            **{name: device.allocate(-(-r * c * element // 4) * 4) for name, (r, c) in self.shapes.items()},
        }

    def release(self) -> None:
        """Give the memory back now."""
        for buffer in self.buffers.values():
            buffer.release()

    def poison(self) -> None:
        """Make every output NaN, and the plan a number that is nothing."""
        for name in ("plan", "h", "d", "y"):
            self.device.fill(self.buffers[name], POISON)

    def read_counts(self) -> npt.NDArray[np.int64]:
        """Rows of each expert from the plan on the device: the host waits for it."""
        layout = self.spec.plan_layout
        plan = self.device.read(self.buffers["plan"], np.empty(layout.tile_offset, np.int32))
        # A wrong plan fails in the check that follows; it must not launch billions of groups.
        return np.clip(np.diff(plan[layout.row_offset :]), 0, layout.max_rows).astype(np.int64)

    def arguments(self, stage: Stage, packed: bool) -> tuple[list[Described], list[Buffer], Described]:
        """Of a stage, with packed weights or as stored: what its inputs are, all its buffers, what its output is."""
        buffers, dtype = self.buffers, self.inputs.x.dtype.name
        plan: Described = ((self.spec.plan_layout.size, 1), "int32")
        if stage is ROUTE:
            return [_describe(self.inputs.ids)], [buffers["ids"], buffers["plan"]], plan
        if stage is COMBINE:
            inputs = [(self.shapes["d"], dtype), plan, _describe(self.inputs.weights)]
            return inputs, [buffers[name] for name in ("d", "plan", "weights", "y")], (self.shapes["y"], dtype)
        source, target = ("h", "d") if stage is DOWN else ("x", "h")
        first = (self.shapes["h"], dtype) if stage is DOWN else _describe(self.inputs.x)
        described, weights = self.weights.inputs(stage, packed)
        inside = [buffers[source], buffers["plan"], *weights, buffers[target]]
        return [first, plan, *described], inside, (self.shapes[target], dtype)


def _describe(array: Tensor) -> Described:
    return array.shape, array.dtype.name


class Run:
    """One schedule on one case: the built kernels with their arguments, and what is launched.

    Raises DeviceError when a kernel does not build.
    """

    def __init__(self, case: Case, schedule: Schedule, config: KernelConfig) -> None:
        self.case, self.schedule, self.config = case, schedule, config
        spec = case.spec
        self.stages = {"route": ROUTE, "gate_up": spec.gate_up_stage, "down": DOWN, "combine": COMBINE}
        self._kernels = {name: self._prepare(stage) for name, stage in self.stages.items()}
        self._launches = {name: self.launches(name, case.counts) for name in self.stages}

    def launches(self, stage: str, counts: npt.NDArray[np.int64]) -> list[Launch]:
        """What is enqueued for one of the four stages."""
        spec = self.case.spec
        # The grid is launched for the tokens that are there, as a plugin that knows the shape would.
        sizes = {**spec.sizes(), "max_tokens": max(self.case.inputs.tokens, 1)}
        return launches(self.schedule, self.stages[stage], self.config, sizes, counts)

    def enqueue(self, stage: str, planned: Sequence[Launch] | None = None) -> list[Event]:
        """Enqueue one of the four stages."""
        device, kernel = self.case.device, self._kernels[stage]
        return [
            device.enqueue(kernel, launch.size, launch.offset)
            for launch in (self._launches[stage] if planned is None else planned)
        ]

    def layer(self) -> list[Event]:
        """Enqueue all four stages; with ``host_counts`` the host reads the plan between the first two."""
        events = self.enqueue("route")
        if self.schedule.host_counts:
            counts = self.case.read_counts()
            for stage in ("gate_up", "down"):
                events += self.enqueue(stage, self.launches(stage, counts))
        else:
            events += self.enqueue("gate_up") + self.enqueue("down")
        return events + self.enqueue("combine")

    def groups(self, stage: str) -> tuple[int, int, int]:
        """(work-groups launched, those that find a task, launches) of a stage or of the ``layer``."""
        names = self.stages if stage == "layer" else [stage]
        planned = [launch for name in names for launch in self._launches[name]]
        return sum(launch.size.total_groups for launch in planned), sum(launch.live for launch in planned), len(planned)

    def _prepare(self, stage: Stage) -> Prepared:
        micro, spec = self.config.micro, self.case.spec
        inputs, buffers, output = self.case.arguments(stage, isinstance(micro, Mma) and micro.packed)
        if isinstance(micro, Mma):  # its rows have none; the buffers keep the room
            spec = replace(spec, h_exponents=False, d_exponents=False)
        text = program(stage, self.config, spec.attributes(), inputs, output)
        if stage not in (ROUTE, COMBINE):
            text = with_schedule(text, self.schedule)
        return self.case.device.prepare(text, stage.entry, buffers, compiler_options(stage, self.config))


def random_inputs(rng: np.random.Generator, ids: npt.NDArray[np.int32], room: int, x: Tensor) -> Inputs:
    """Tokens for drawn ids [T, k]: the first T rows of ``x``, positive top-k weights of sum 1, ``room`` places."""
    tokens, top_k = ids.shape
    logits = np.exp(rng.standard_normal((tokens, top_k), np.float32))
    weights = (logits / logits.sum(axis=1, keepdims=True)).astype(x.dtype)

    def widen(array: Tensor, value: int) -> Tensor:
        return np.concatenate([array, np.full((room - tokens, array.shape[1]), value, array.dtype)])

    return Inputs(tokens, widen(x[:tokens], 0), widen(ids, -2), widen(weights, 0))
