"""Runs a benchmark: for each shape its weights once, for each case the check and then the schedules side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ov_moe.devices.timing import TimingDevice
from ov_moe.errors import DeviceError
from ov_moe.kernel_bench import oracle
from ov_moe.kernel_bench.case import Case, DeviceBlock, Inputs, Run, random_inputs
from ov_moe.kernel_bench.check import Check, check
from ov_moe.kernel_bench.cost import Limits
from ov_moe.kernel_bench.distributions import draw_ids
from ov_moe.kernel_bench.measure import Flush, Timing, interleave, timed
from ov_moe.kernel_bench.plan import Plan
from ov_moe.kernel_bench.records import Row
from ov_moe.kernel_bench.row import make_row
from ov_moe.kernel_bench.schedules import configure
from ov_moe.kernel_bench.shapes import Shape, block_spec
from ov_moe.kernel_bench.weights import random_block
from ov_moe.kernels.block_program import ACTIVATIONS
from ov_moe.kernels.config import KernelConfig
from ov_moe.reference import Array
from ov_moe.spec import DeviceInfo


def run_plan(
    plan: Plan, device: TimingDevice, limits: Limits | None, flush: Flush, on_rows: Callable[[list[Row]], None]
) -> None:
    """Measure everything; ``on_rows`` gets the rows of each case and stage as soon as they are there.

    A schedule that does not build, fails or gives a wrong result has a row that says so and no time. Raises
    InvalidInputError before the first measurement where any of them cannot be.
    """
    check_plan(plan, device.info)
    for shape in plan.shapes:
        for precision in plan.precisions:
            for prepared in prepare_cases(plan, device, shape, precision):
                contest = Contest(plan, prepared)
                for stage in plan.stages:
                    variants = [timed(run, stage, flush) for run in contest.runs.values()]
                    timings = interleave(variants, plan.repeats, plan.seconds)
                    named = dict(zip(contest.runs, timings, strict=True))
                    on_rows(contest.rows(stage, named, named.get(plan.baseline), limits))


def check_plan(plan: Plan, device: DeviceInfo) -> None:
    """Raise InvalidInputError for a precision, distribution or setting that does not go with a shape."""
    for shape in plan.shapes:
        for distribution in plan.distributions:
            draw_ids(distribution, 1, shape.experts, shape.top_k, plan.seed)
        for precision in plan.precisions:
            spec = block_spec(shape, precision, max(plan.tokens), plan.group)
            for schedule in plan.schedules:
                for tokens in plan.tokens:
                    configure(schedule, spec, tokens, ACTIVATIONS[plan.activations], device, plan.settings)


@dataclass(frozen=True)
class Prepared:
    """A case on the device and what its sampled tokens must come out as, [S, H]."""

    shape: Shape
    precision: str
    distribution: str
    case: Case
    sample: oracle.Sample
    exact: Array


def prepare_cases(plan: Plan, device: TimingDevice, shape: Shape, precision: str) -> Iterator[Prepared]:
    """The cases of a shape, one at a time on the device; the weights stay there from the first to the last."""
    # Generators of their own: a row that is measured alone later sees the same numbers.
    block = random_block(np.random.default_rng([plan.seed, 1]), block_spec(shape, precision, 1, plan.group))
    normal = np.random.default_rng([plan.seed, 2]).standard_normal((max(plan.tokens), shape.hidden), np.float32)
    x = normal.astype(plan.activations)
    todo: list[tuple[str, Inputs, oracle.Sample]] = []
    for distribution in plan.distributions:
        for tokens in plan.tokens:
            ids = draw_ids(distribution, tokens, shape.experts, shape.top_k, plan.seed)
            rng = np.random.default_rng([plan.seed, 3, tokens])
            inputs = random_inputs(rng, ids, plan.room or tokens, x)
            todo.append((distribution, inputs, oracle.sample(rng, inputs.x, ids, inputs.weights)))
    exact = oracle.expected(block, [sample for _, _, sample in todo])
    weights = DeviceBlock(device, block)
    try:
        for (distribution, inputs, sample), y in zip(todo, exact, strict=True):
            spec = block_spec(shape, precision, inputs.ids.shape[0], plan.group)
            case = Case(device, weights, spec, inputs)
            try:
                yield Prepared(shape, precision, distribution, case, sample, y)
            finally:
                case.release()
    finally:
        weights.release()


class Contest:
    """The schedules of a plan on one case, built and checked; ``runs`` holds those that may be timed."""

    def __init__(self, plan: Plan, prepared: Prepared) -> None:
        self.plan, self.prepared = plan, prepared
        self.runs: dict[str, Run] = {}
        self._checks: dict[str, Check] = {}
        self._configs: dict[str, KernelConfig] = {}
        case = prepared.case
        for schedule in plan.schedules:
            name = schedule.name
            activations = ACTIVATIONS[plan.activations]
            config = configure(schedule, case.spec, case.inputs.tokens, activations, case.device.info, plan.settings)
            self._configs[name] = config
            try:
                run = Run(case, schedule, config)
                self._checks[name] = check(run, prepared.sample.tokens, prepared.exact)
            except DeviceError as error:
                self._checks[name] = Check(float("nan"), float("nan"), str(error).strip().splitlines()[0])
            if not self._checks[name].why:
                self.runs[name] = run

    def rows(
        self,
        stage: str,
        timings: dict[str, Timing],
        baseline: Timing | None,
        limits: Limits | None,
    ) -> list[Row]:
        """A row of each schedule of the plan, with a time where there is one in ``timings``."""
        prepared, plan, rows = self.prepared, self.plan, []
        case = prepared.case
        for schedule in plan.schedules:
            name = schedule.name
            command = plan.command(
                prepared.shape, prepared.precision, case.inputs.tokens, prepared.distribution, stage, name
            )
            labels = {
                "shape": prepared.shape.name,
                "distribution": prepared.distribution,
                "seed": plan.seed,
                "baseline": plan.baseline,
                "repro": command,
            }
            rows.append(
                make_row(
                    case,
                    stage,
                    schedule,
                    self._configs[name],
                    self._checks[name],
                    run=self.runs.get(name),
                    timing=timings.get(name),
                    baseline=baseline,
                    limits=limits,
                    labels=labels,
                )
            )
        return rows
