"""From a check and a timing to a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ov_moe.kernel_bench.case import Case, Run
from ov_moe.kernel_bench.check import Check
from ov_moe.kernel_bench.cost import Limits, padded_rows, stage_cost
from ov_moe.kernel_bench.measure import Timing
from ov_moe.kernel_bench.records import Row
from ov_moe.kernel_bench.schedules import Schedule
from ov_moe.kernels.config import KernelConfig


def make_row(
    case: Case,
    stage: str,
    schedule: Schedule,
    config: KernelConfig,
    checked: Check,
    *,
    run: Run | None,
    timing: Timing | None,
    baseline: Timing | None,
    limits: Limits | None,
    labels: Mapping[str, Any],
) -> Row:
    """One row; absolute figures only for a GPU, and only where the check passed.

    Args:
        case: Block and tokens.
        stage: ``layer`` or a kernel.
        schedule: What ran it.
        config: With which configuration.
        checked: The check's result.
        run: For the work-groups; None where the check failed.
        timing: None where nothing was timed.
        baseline: The baseline's timing of the same stage, or None.
        limits: Of the device, or None where they were not measured.
        labels: ``shape``, ``distribution``, ``seed``, ``baseline`` and ``repro`` of the row.
    """
    return Row(
        **_of_case(case, config),
        **_of_timing(case, stage, timing, limits),
        **_of_groups(run, stage),
        stage=stage,
        schedule=schedule.name,
        host_counts=schedule.host_counts,
        ok=not checked.why,
        why=checked.why,
        error=checked.error,
        tolerance=checked.tolerance,
        ratio=baseline.median / timing.median if baseline is not None and timing is not None else None,
        **labels,
    )


def _of_case(case: Case, config: KernelConfig) -> dict[str, Any]:
    """The block, its tokens and their routing, and what the kernels are built with."""
    spec, counts = case.spec, case.counts
    return {
        "hidden": spec.hidden,
        "intermediate": spec.intermediate,
        "experts": spec.experts,
        "top_k": spec.top_k,
        "precision": spec.gate.label(),
        "tokens": case.inputs.tokens,
        "room": spec.max_tokens,
        "skew": float(counts.max() / max(counts.mean(), 1e-9)),
        "config": " ".join(f"{name}={value}" for name, value in config.settings().items()),
        "rows": int(counts.sum()),
        "padded": padded_rows(counts, config.micro.tile_m),
    }


def _of_timing(case: Case, stage: str, timing: Timing | None, limits: Limits | None) -> dict[str, Any]:
    """Times and what follows from them; but for their spread only of a GPU."""
    cost = stage_cost(stage, case.weights.block, case.counts, case.inputs.tokens, case.inputs.x.dtype.itemsize)
    absolute = timing if case.device.is_gpu else None
    seconds = absolute.median * 1e-3 if absolute is not None else None
    bound, least = cost.bound(limits) if limits is not None and seconds else (None, None)
    return {
        "ms": None if absolute is None else absolute.median,
        "ms_low": None if absolute is None else absolute.low,
        "ms_high": None if absolute is None else absolute.high,
        "spread": None if timing is None else timing.spread,
        "runs": 0 if timing is None else timing.runs,
        "tflops": cost.flops / seconds * 1e-12 if seconds else None,
        "gbs": cost.bytes / seconds * 1e-9 if seconds else None,
        "bound": bound,
        "fraction": least / seconds if least is not None and seconds else None,
    }


def _of_groups(run: Run | None, stage: str) -> dict[str, Any]:
    groups, live, launched = run.groups(stage) if run is not None else (None, None, None)
    return {"groups": groups, "live": live, "launches": launched}
