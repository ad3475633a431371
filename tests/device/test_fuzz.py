"""Random blocks in every micro-kernel, precision and schedule against the float64 oracle: `make fuzz` runs 10,000.

A case is one run of the four kernels: (sizes, routing, precision, micro-kernel, schedule). CI runs 300 fresh ones; a
failure prints the seed, and hypothesis the smallest case that it finds.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from blocks import Block, same_bits
from fuzz_cases import Program, Run, programs, random_run
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st
from kernel_cases import emulated
from micro_kernels import assert_rest_is_poison, assert_same, assert_same_plan, check_results, rounded

from ov_moe import reference
from ov_moe.devices.opencl import OpenCLDevice, default_device
from ov_moe.kernels.plan import D_WIDE, H_WIDE


class Tally:
    """What was run so far, by micro-kernel, precision and schedule."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.programs: set[Program] = set()
        self.cases, self.distinct, self.begin = 0, set[tuple[Program, Run, str]](), time.monotonic()

    def add(self, program: Program, run: Run, schedule: str) -> None:
        self.cases += 1
        self.programs.add(program)
        if (program, run, schedule) in self.distinct:
            return
        self.distinct.add((program, run, schedule))
        weights = program.precision[0] if len(set(program.precision)) == 1 else "mixed"
        columns = {
            "micro-kernel": program.computes,
            "precision": weights,
            "schedule": schedule,
            "buffers": np.dtype(program.dtype).name,
            "exponents": "beyond f16" if program.exponents and run.beyond else "some" if program.exponents else "none",
            "layout": program.layout,
            "activation": program.activation.kind,
            "routing": run.routing,
            "experts": str(program.experts),
        }
        for column, value in columns.items():
            self.counts.setdefault(column, Counter())[value] += 1

    def __str__(self) -> str:
        took = time.monotonic() - self.begin
        lines = [
            f"{len(self.distinct)} cases of {len(self.programs)} sets of programs, 0 wrong, in {took:.0f} s "
            f"({self.cases / took:.1f} runs a second)"
        ]
        for column, counter in self.counts.items():
            lines.append(f"  {column}: {', '.join(f'{name} {n}' for name, n in counter.most_common())}")
        return "\n".join(lines)


def expected_block(program: Program, block: Block, bad: np.ndarray) -> Block:
    """What the oracle is asked: tokens that must be NaN count as padding, weights are rounded where kernels do."""
    good = replace(block, ids=np.where(bad[:, None], -1, block.ids).astype(np.int32))
    return rounded(good) if program.computes in ("dpas", "mma") else good


def check(device: OpenCLDevice, program: Program, weights: Block, run: Run, tally: Tally) -> None:
    """One set of values under both schedules: two cases."""
    block, bad = run.block(program, weights)
    first = None
    for schedule in program.schedules:
        setting = program.config(schedule, run.groups)
        if setting.micro.name == "mma" and device.info.vendor != "nvidia":
            setting = emulated(setting)
        found = block.run_all(device, setting)
        if first is None:
            first = found
            plan = reference.plan(block.ids, program.experts, setting.micro.tile_m)
            written = found.plan.copy()
            written[[H_WIDE, D_WIDE]] = 0  # the GEMMs' words
            assert_same_plan(written, plan, block.spec.plan_layout)
            assert_rest_is_poison(written, plan, block.spec.plan_layout)
            tokens = block.spec.plan_layout.view(plan).tokens
            assert np.isnan(found.y[bad]).all(), "a token with a bad id, or NaN in x, must be NaN"
            quiet = (block.ids < 0).all(axis=1)[:tokens] & ~bad[:tokens]
            assert not found.y[:tokens][quiet].any(), "padding must be zero"
            good = found._replace(y=np.where(bad[:, None], found.y.dtype.type(0), found.y))
            check_results(expected_block(program, block, bad), good)
        else:
            assert same_bits(found.plan[: block.spec.plan_layout.size], first.plan)
            assert_same(found, first)
        tally.add(program, run, schedule)


# Of all cases. Emulated, mma is a hundred times slower than the others.
SHARES: dict[str, float] = {"fma": 0.45, "gemv": 0.3, "dpas": 0.2, "mma": 0.05}


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", SHARES)
def test_random_blocks_match_the_oracle(kind: str, request: pytest.FixtureRequest) -> None:
    total, number = request.config.getoption("--fuzz-cases"), request.config.getoption("--fuzz-seed")
    if number is None:
        number = int(np.random.SeedSequence().entropy or 0) % 2**32
    again = f"pytest '{request.node.nodeid}' --fuzz-cases {total} --fuzz-seed {number}"
    print(f"\n{again}", flush=True)
    cases = round(SHARES[kind] * total)
    # A set of programs takes as long to build as some hundred cases to run. Each set of values is two cases.
    each = min(15 if total <= 1000 else 40, -(-cases // 2))
    device, tally, failed = default_device(), Tally(), list[Run]()
    calls: list[Program] = []

    @seed(number)
    @settings(
        max_examples=1 + 3 * -(-cases // (2 * each)),  # some are drawn twice
        phases=[Phase.generate, Phase.shrink],
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        program = data.draw(programs(kind), "program")
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "values"))
        calls.append(program)
        # The first one is always the simplest that there is.
        if len(calls) == 1 or (len(tally.distinct) >= cases and not failed):
            return
        stored: dict[tuple[int, int], Block] = {}
        for _ in range(each):
            run = random_run(rng, program)
            key = run.weights_seed, run.weights_exponent
            if key not in stored:
                stored[key] = program.weights(*key)
            try:
                check(device, program, stored[key], run, tally)
            except BaseException:
                note(f"{run}, under {program.schedules}")
                failed.append(run)  # hypothesis looks for a smaller one: all that it tries is to be run
                raise
        print(f"{len(tally.distinct)} cases, {time.monotonic() - tally.begin:.0f} s: {program}", flush=True)

    try:
        fuzz()
    except BaseException:
        print(f"To repeat: {again}", flush=True)
        raise
    assert len(tally.distinct) >= cases
    print(tally, flush=True)
