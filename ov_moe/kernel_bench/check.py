"""The check before any timing: every element written and finite, a sample of tokens equal to the float64 oracle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ov_moe import reference
from ov_moe.kernel_bench import oracle
from ov_moe.kernel_bench.case import Case, Run
from ov_moe.kernel_bench.schedules import bench_source
from ov_moe.kernels.geometry import WorkSize


@dataclass(frozen=True)
class Check:
    """The result of a check.

    Attributes:
        error: Largest error of a sampled token, as a share of its norm; NaN where nothing could be compared.
        tolerance: What is allowed.
        why: Empty, or one sentence that says what is wrong: the row must not be timed.
    """

    error: float
    tolerance: float
    why: str = ""


def check(run: Run, tokens: npt.NDArray[np.int64], exact: reference.Array) -> Check:
    """Run the layer into poisoned buffers and look at what it left.

    Args:
        run: One schedule on one case.
        tokens: Sampled tokens [S].
        exact: Their y [S, H] in float64.
    """
    case = run.case
    spec, device, live = case.spec, case.device, int(case.counts.sum())
    case.poison()
    run.layer()
    device.finish()
    y = device.read(case.buffers["y"], np.empty(case.shapes["y"], case.inputs.x.dtype))
    error = oracle.relative_error(y[tokens], exact)
    allowed = oracle.tolerance(spec.hidden, spec.intermediate, float(np.finfo(y.dtype).eps))
    for name, rows in (("h", live), ("d", live), ("y", case.inputs.tokens)):
        bad, touched = _inspect(case, name, rows)
        if bad:
            return Check(error, allowed, f"{bad} elements of {name} were not written, or are not finite.")
        if touched:
            return Check(error, allowed, f"{touched} elements of {name} behind its last row were written.")
    if not error <= allowed:
        return Check(error, allowed, f"y differs from the float64 oracle by {error:.2g} of its norm ({allowed:.2g}).")
    return Check(error, allowed)


def _inspect(case: Case, name: str, rows: int) -> tuple[int, int]:
    """(elements not finite among the first rows, elements written behind them) of an output."""
    device, (room, columns) = case.device, case.shapes[name]
    used = case.spec.intermediate if name == "h" else case.spec.hidden
    half = case.inputs.x.dtype == np.float16
    text = f"#define WORD {'ushort' if half else 'uint'}\n#define EXPONENT {'0x7C00' if half else '0x7F800000'}\n"
    found = device.upload(np.zeros(2, np.int32))
    kernel = device.prepare(
        text + bench_source("inspect.cl"),
        "bench_inspect",
        [
            case.buffers[name],
            *(np.uint64(rows * columns), np.uint64(room * columns)),
            *(np.uint32(columns), np.uint32(used)),
            found,
        ],
    )
    device.enqueue(kernel, WorkSize((device.compute_units * 8, 1, 1), 128))
    bad, touched = device.read(found, np.empty(2, np.int32))
    return int(bad), int(touched)
