"""The plugin's profile (PERF_COUNT) of a prompt and of further tokens. Imports openvino."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from ov_moe.bench.averages import Mean, Shown, take_apart
from ov_moe.generate import Logits, Session
from ov_moe.kernels.stages import STAGES

_OURS = frozenset(stage.op_type for stage in STAGES)
# What the type names of a block's two matrix products begin with, in each of its forms.
_PROJECTIONS = ("MoEGateUp", "MoEDown")
# What the GPU plugin calls the kernel of an operation that runs on the host; it shows one time as both.
_HOST = "CPU"


class ProfiledSession(Session):
    """The only session on a model that was compiled with PERF_COUNT: the profile is that of all its inferences."""

    def __init__(self, compiled: ov.CompiledModel, batch: int = 1) -> None:
        """As ``Session``, before the model's first inference."""
        super().__init__(compiled, batch)
        self._phases: list[str] = []
        self._profiles: list[dict[str, Shown]] = []
        self._walls: list[float] = []
        self._nodes: dict[str, tuple[str, str]] = {}
        self._means: dict[str, dict[str, Mean]] = {}
        self._warm_up = 0

    def profiled_step(self, input_ids: npt.NDArray[np.int64], phase: str) -> Logits:
        """As ``Session.step``; all steps of a phase are of one kind."""
        start = perf_counter()
        logits = self.step(input_ids)
        self._walls.append(1e3 * (perf_counter() - start))
        shown: dict[str, Shown] = {}
        for node in self._request.profiling_info:
            name = str(node.node_name)
            device, host = (round(1e6 * time.total_seconds()) for time in (node.real_time, node.cpu_time))
            shown[name] = Shown(device, host, node.status == ov.ProfilingInfo.Status.EXECUTED)
            self._nodes[name] = _operation(node), str(node.exec_type)
        self._profiles.append(shown)
        self._phases.append(phase)
        return logits

    def end_warm_up(self) -> None:
        """What follows counts."""
        self._warm_up = len(self._phases)

    def take_apart(self) -> None:
        """All steps are done: the other methods tell of them."""
        self._means = take_apart(self._phases, self._profiles, self._warm_up)

    def wall_ms(self, phase: str) -> float:
        """Mean duration of a step, milliseconds."""
        steps = list(zip(self._phases, self._walls, strict=True))[self._warm_up :]
        return fmean(wall for each, wall in steps if each == phase)

    def blocks_run(self, names: list[str], phase: str, *, loop: bool) -> int:
        """How many of these rewritten blocks ran on ov-moe's operations in a phase, by the plugin's profile.

        All blocks take one way, for the number of tokens decides it: where the average of any of their operations
        moved, those of the others, which may stand still on a steady device, ran as well.

        Args:
            names: Of the blocks.
            phase: Of these steps.
            loop: Whether there were so many tokens that a block's operations ran inside its loop, which the profile
                shows as one operation.
        """
        means, loops = self._means[phase], {f"{block}/chunks" for block in names}
        ran = {
            name: self._nodes[name][0] for name, last in self._profiles[-1].items() if name in means or last.executed
        }
        if not any(mean.moved for name, mean in means.items() if ran.get(name) in _OURS or name in loops):
            return 0
        if loop and ran.keys() & loops:
            return len(ran.keys() & loops)

        def projected(block: str, kind: str) -> bool:
            ours = (name for name, operation in ran.items() if operation in _OURS and operation.startswith(kind))
            return any(name.startswith(f"{block}/") for name in ours)

        return sum(all(projected(block, kind) for kind in _PROJECTIONS) for block in names)

    def profile(self, phase: str) -> list[dict[str, Any]]:
        """The operations that ran in a phase, equal kinds together, the longest first.

        Returns:
            ``phase``, ``operation`` (node type), ``kernel`` (as the plugin names the implementation, CPU where an
            operation of a GPU's model runs on the host), ``count`` (operations), ``device_ms``, ``host_ms`` (a host
            operation's duration; the time in the queue of one on the device), ``ours``; times are means of the
            phase's inferences.
        """
        rows: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
        for name, mean in self._means[phase].items():
            operation, kernel = self._nodes[name]
            row = rows[operation, kernel]
            row[0] += 1
            row[1] += 0.0 if kernel == _HOST else 1e-3 * mean.device
            row[2] += 1e-3 * mean.host
        return sorted(
            (
                {
                    "phase": phase,
                    "operation": operation,
                    "kernel": kernel,
                    "count": int(count),
                    "device_ms": device_ms,
                    "host_ms": host_ms,
                    "ours": operation in _OURS,
                }
                for (operation, kernel), (count, device_ms, host_ms) in rows.items()
            ),
            key=lambda row: -row["host_ms"] if row["kernel"] == _HOST else -row["device_ms"],
        )


def _operation(node: ov.ProfilingInfo) -> str:
    """The CPU plugin calls an operation of others Reference."""
    named = str(node.node_name).rpartition("/")[2]
    return named if node.node_type == "Reference" and named in _OURS else str(node.node_type)
