"""The benchmark without a device: formulas, launches, interleaving, error sentences."""

from __future__ import annotations

import numpy as np
import pytest

from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench.cost import STAGES, Cost, Limits, gemm_flops, padded_rows, stage_cost
from ov_moe.kernel_bench.measure import interleave, summarize
from ov_moe.kernel_bench.mma import Mma
from ov_moe.kernel_bench.plan import Plan, read_settings, whole_numbers, words
from ov_moe.kernel_bench.schedules import SCHEDULES, configure, find_schedule, launches
from ov_moe.kernel_bench.shapes import SHAPES, Shape, block_spec, default_group, find_shape
from ov_moe.kernel_bench.weights import StoredBlock, random_block
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.micro import Fma, Gemv
from ov_moe.kernels.stages import COMBINE, DOWN, GATE_UP, ROUTE
from ov_moe.spec import DeviceInfo

COUNTS = np.array([0, 1, 32, 33, 0, 70])
CONFIG = {"grid": KernelConfig("grid", "ticket", 5), "pool": KernelConfig("pool", "ticket", 5)}


@pytest.fixture
def block(rng: np.random.Generator) -> StoredBlock:
    """H 64, I 32, 6 experts, top 2, u4 in groups of 32 with zero points."""
    return random_block(rng, block_spec(Shape("s", 64, 32, 6, 2), "u4", 1))


def test_flops_and_bytes_by_hand(block: StoredBlock) -> None:
    """136 rows of 68 tokens over 4 active experts; each expert: 1024 bytes of nibbles, 64 scales, 64 zero points."""
    rows, tokens, expert = 136, 68, 64 * 32 // 2 + 64 * 2 + 64 // 2
    costs = {stage: stage_cost(stage, block, COUNTS, tokens, 2) for stage in STAGES}
    assert costs["gate_up"] == Cost(4 * 64 * 32 * rows, 4 * 2 * expert + 2 * (tokens * 64 + rows * 32))
    assert costs["down"] == Cost(2 * 64 * 32 * rows, 4 * expert + 2 * (rows * 32 + rows * 64))
    assert costs["combine"] == Cost(0, 2 * (rows * 64 + tokens * 64 + rows) + 4 * rows)
    assert costs["route"] == Cost(0, 4 * (3 * rows + 14))
    assert costs["layer"].flops == gemm_flops(64, 32, rows) == 6 * 64 * 32 * rows
    assert costs["layer"].bytes == sum(costs[stage].bytes for stage in STAGES[1:])


def test_the_limit_that_binds() -> None:
    limits = Limits(flops=100.0, bandwidth=10.0, arithmetic="fma")
    assert Cost(200, 10).bound(limits) == ("compute", 2.0)
    assert Cost(200, 30).bound(limits) == ("memory", 3.0)


def test_padded_rows() -> None:
    assert padded_rows(COUNTS, 32) == 0 + 31 + 0 + 31 + 0 + 26


def groups(name: str, stage: object) -> tuple[int, int, int]:
    """(launched, live, launches) of a schedule with 5 groups in the pool, 100 tokens, 3 blocks of gate and up."""
    schedule = SCHEDULES[name]
    sizes = {"experts": 6, "top_k": 2, "max_tokens": 100, "hidden": 70, "intermediate": 70}
    config = CONFIG["pool" if schedule.fetch else "grid"]
    planned = launches(schedule, stage, config, sizes, COUNTS)  # type: ignore[arg-type]
    return sum(p.size.total_groups for p in planned), sum(p.live for p in planned), len(planned)


def test_work_groups_launched_and_live() -> None:
    """Tiles of 32 rows: 0, 1, 1, 2, 0, 3; blocks of 64 columns: 3 of gate and up, 2 of down."""
    assert groups("grid", GATE_UP) == (3 * 4 * 6, 3 * 7, 1)
    assert groups("grid", DOWN) == (2 * 4 * 6, 2 * 7, 1)
    assert groups("grid-largest", GATE_UP) == (3 * 3 * 6, 3 * 7, 1)
    assert groups("loop", GATE_UP) == (3 * 7, 3 * 7, 4)
    for name, schedule in SCHEDULES.items():
        assert groups(name, ROUTE) == (1, 1, 1)
        assert groups(name, COMBINE) == (4, 4, 1)  # 100 tokens of 9 work-items, 256 a group
        if schedule.fetch:
            assert groups(name, DOWN) == (5, 5, 1)


def test_variants_take_turns_forwards_and_backwards() -> None:
    order: list[str] = []

    def variant(name: str, ms: float) -> float:
        order.append(name)
        return ms

    timings = interleave([lambda: variant("A", 1.0), lambda: variant("B", 2.0)], repeats=3, seconds=60)
    assert "".join(order) == "AB" + "ABBA" * 2
    assert [(timing.median, timing.runs) for timing in timings] == [(1.0, 4), (2.0, 4)]
    assert interleave([lambda: 1.0], repeats=100, seconds=0)[0].runs == 2
    assert interleave([], repeats=2, seconds=0) == []


def test_median_and_quartiles() -> None:
    timing = summarize([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (timing.median, timing.low, timing.high, timing.spread) == (3.0, 2.0, 4.0, 2 / 3)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=str)
@pytest.mark.parametrize("precision", ["f16", "f32", "u8", "i8", "u4", "i4", "f4e2m1"])
def test_every_shape_has_a_block_in_every_precision(shape: Shape, precision: str) -> None:
    spec = block_spec(shape, precision, 8)
    assert (spec.hidden, spec.intermediate, spec.experts) == (shape.hidden, shape.intermediate, shape.experts)
    assert (spec.gate_up_stage is GATE_UP) == (shape.layout == "separate")


def test_default_groups() -> None:
    assert default_group(SHAPES["qwen3-30b"], "u4") == 128
    assert default_group(SHAPES["gpt-oss-20b"], "u4") == 64  # 2880 is no multiple of 128
    assert default_group(SHAPES["gpt-oss-20b"], "f4e2m1") == 32


def plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "shapes": [SHAPES["qwen3-30b"]],
        "precisions": ["u4"],
        "tokens": [16],
        "distributions": ["hot"],
        "schedules": [SCHEDULES["grid"], SCHEDULES["pool-ticket"]],
        "stages": ["layer"],
        "baseline": "grid",
    }
    return Plan(**{**values, **changes})  # type: ignore[arg-type]


def configured(settings: dict[str, str], shape: str = "64/32/8/2", vendor: str = "intel") -> KernelConfig:
    """For 16 tokens in f16, on a device of 4 compute units."""
    spec, device = block_spec(find_shape(shape), "u4", 16), DeviceInfo(4, vendor=vendor)
    return configure(SCHEDULES["pool-ticket"], spec, 16, "f16", device, settings)


def test_tensor_cores_are_taken_where_they_can_serve() -> None:
    assert configured({}).micro == Fma()
    assert configured({}, vendor="other").groups == 64
    taken = configured({}, vendor="nvidia")
    assert isinstance(taken.micro, Mma)
    assert (taken.micro.packed, taken.groups) == (False, 28)
    for more in (configured({"packed": "1"}, vendor="nvidia"), configured({}, "64/32/2/2", "nvidia")):  # 16 rows
        assert isinstance(more.micro, Mma)
        assert more.micro.packed
    assert configured({"micro_kernel": "fma"}, vendor="nvidia").micro == Fma()
    few = configured({"micro_kernel": "gemv", "tile_k": "512"}, vendor="nvidia")
    assert (few.micro, few.groups) == (Gemv(tile_k=512), 64)
    assert configured({}, "48/32/8/2", "nvidia").micro == Fma()  # 48 is no multiple of 32
    for name in ("mma", "dpas"):
        assert configured({"micro_kernel": name, "emulation": "1"}).micro.settings()["emulation"] is True


def test_the_command_that_measures_a_row_again() -> None:
    found = plan(settings={"tile_m": "16"}, room=32).command(
        SHAPES["qwen3-30b"], "u4", 16, "hot", "down", "pool-ticket"
    )
    assert found == (
        "ov-moe kernels bench --shape qwen3-30b --precision u4 --tokens 16 --distribution hot --stage down "
        "--schedule grid,pool-ticket --baseline grid --repeats 20 --seed 0 --room 32 --set tile_m=16"
    )


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: find_shape("qwen"), "shape 'qwen' is unknown: use qwen3-30b"),
        (lambda: find_shape("64/32/8/9"), "top-k no more than the experts"),
        (lambda: find_shape("63/32/8/2"), "must be even"),
        (lambda: find_schedule("pool"), "schedule 'pool' is unknown: use grid"),
        (lambda: block_spec(SHAPES["qwen3-30b"], "q4", 1), "precision 'q4' is unknown: use f32"),
        (lambda: block_spec(SHAPES["qwen3-30b"], "u4", 1, 100), "group size 100 must be even and divide K = 2048"),
        (lambda: default_group(find_shape("48/36/8/2"), "f4e2m1"), "need groups of 32, which do not divide"),
        (lambda: configured({"tiles": "1"}), "--set tiles=1: the configuration has"),
        (lambda: configured({"schedule": "pool"}), "--set schedule=pool"),
        (lambda: configured({"tile_m": "x"}), "tile_m is a whole number"),
        (lambda: configured({"micro_kernel": "mma"}, "48/32/8/2"), "micro_kernel=mma: H = 48 and I = 32 must be mult"),
        (lambda: configured({"micro_kernel": "mma"}), "micro_kernel=mma: the device is no NVIDIA GPU: leave it out"),
        (
            lambda: configured({"micro_kernel": "GEMV"}),
            "micro_kernel is 'GEMV', it must be one of fma, gemv",
        ),
        (lambda: configured({"micro_kernel": "dpas"}), "micro_kernel=dpas: no XMX of a kind"),
        (lambda: plan(baseline="loop"), "the baseline 'loop' is not among the schedules grid, pool-ticket"),
        (lambda: plan(tokens=[16, 0]), "must each be at least 1"),
        (lambda: plan(room=8), "at most the room, 8"),
        (lambda: whole_numbers("16,x"), "tokens 'x' is no whole number"),
        (lambda: words(" , "), "a list on the command line is empty"),
        (lambda: read_settings(["tile_m"]), "--set tile_m: write it as name=value"),
    ],
)
def test_a_wrong_argument_is_one_sentence(call: object, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        call()  # type: ignore[operator]
