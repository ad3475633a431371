"""The plugin's profile (PERF_COUNT) of a prompt and of one further token. Imports openvino."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import openvino as ov

from ov_moe.generate import Session
from ov_moe.kernels.stages import STAGES

_OURS = frozenset(stage.op_type for stage in STAGES)
# What the type names of a block's two matrix products begin with, in each of its forms.
_PROJECTIONS = ("MoEGateUp", "MoEDown")


class ProfiledSession(Session):
    """A session on a model that was compiled with PERF_COUNT."""

    def _executed(self) -> Iterator[tuple[ov.ProfilingInfo, str]]:
        """What the last step executed, with its operation; the CPU plugin calls an operation of others Reference."""
        for node in self._request.profiling_info:
            if node.status == ov.ProfilingInfo.Status.EXECUTED:
                named = str(node.node_name).rpartition("/")[2]
                yield node, named if node.node_type == "Reference" and named in _OURS else str(node.node_type)

    def blocks_run(self, names: list[str], *, loop: bool) -> int:
        """How many of these rewritten blocks ran on ov-moe's operations in the last step, by the plugin's profile.

        Args:
            names: Of the blocks.
            loop: Whether there were so many tokens that a block's operations ran inside its loop, which the profile
                shows as one operation.
        """
        executed = {str(node.node_name) for node, _ in self._executed()}
        loops = {f"{block}/chunks" for block in names}
        if loop and executed & loops:
            return len(executed & loops)
        ours = [(str(node.node_name), operation) for node, operation in self._executed() if operation in _OURS]

        def ran(block: str, kind: str) -> bool:
            return any(name.startswith(f"{block}/") and operation.startswith(kind) for name, operation in ours)

        return sum(all(ran(block, kind) for kind in _PROJECTIONS) for block in names)

    def profile(self, phase: str) -> list[dict[str, Any]]:
        """The operations that the last step executed, equal kinds together, the longest first.

        Returns:
            ``phase``, ``operation`` (node type), ``kernel`` (as the plugin names the implementation), ``count``,
            ``device_ms``, ``host_ms``, ``ours``.
        """
        rows: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
        for node, operation in self._executed():
            row = rows[operation, node.exec_type]
            row[0] += 1
            row[1] += 1e3 * node.real_time.total_seconds()
            row[2] += 1e3 * node.cpu_time.total_seconds()
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
            key=lambda row: -row["device_ms"],
        )
