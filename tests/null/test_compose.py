"""The text of a program: definitions as the GPU plugin writes them, and the hash of what it depends on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
from kernel_cases import config

from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench.mma import Mma
from ov_moe.kernels import compose, plan
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.compose import buffer_defines, program, read_source, source_hash, stage_source
from ov_moe.kernels.compose import sources as sources_of
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.micro import Dpas, Fma, Gemv, MicroKernel
from ov_moe.kernels.stages import COMBINE, STAGES
from ov_moe.spec import ProjectionSpec

SETTING = config("ticket")


def needed(setting: KernelConfig) -> set[str]:
    """The sources of all stages."""
    return {name for stage in STAGES for name in sources_of(stage, setting)}


OTHER = {
    "schedule": "grid",
    "fetch": "stride",
    "groups": 8,
    "micro": Gemv(),
    "route_size": 512,
}
# The same of each micro-kernel; tiles that fit the others' values.
OTHER_FIELDS: dict[MicroKernel, dict[str, Any]] = {
    Fma(): {"tile_m": 64, "tile_n": 32, "tile_k": 16, "local_size": 64},
    Gemv(): {"tile_m": 4, "tile_n": 32, "tile_k": 512, "local_size": 64, "subgroup": 16},
    Dpas(tile_n=128): {
        "tile_m": 32,
        "tile_n": 256,
        "tile_k": 64,
        "local_size": 32,
        "subgroup": 16,
        "subgroup_rows": 16,
        "emulation": True,
    },
    Mma(warps_n=2, warps_k=2, tile_m=64): {
        "tile_m": 32,
        "tile_n": 64,
        "tile_k": 128,
        "stages": 2,
        "packed": True,
        "emulation": True,
    },
}


SETTINGS = {
    **{micro.name: config("ticket", micro=micro) for micro in OTHER_FIELDS},
    **{schedule: config(schedule) for schedule in ("grid", "stride")},
}
SOURCES = sorted({name for setting in SETTINGS.values() for name in needed(setting)})


def of_kind(setting: KernelConfig, kind: str) -> list[str]:
    return sorted(compose.file_name(name) for name in needed(setting) if compose.file_name(name).startswith(kind))


@pytest.mark.parametrize("micro", OTHER_FIELDS, ids=lambda micro: micro.name)
def test_a_program_holds_the_micro_kernel_that_it_needs_and_no_other(micro: MicroKernel) -> None:
    """Behind one that takes f16 alone stands fma, for rows that turn out to be f32."""
    expected = {f"tile_{micro.name}.cl"} | ({"tile_fma.cl"} if micro.name in ("dpas", "mma") else set())
    assert of_kind(config("ticket", micro=micro), "tile_") == sorted(expected)


@pytest.mark.parametrize(
    ("schedule", "files"),
    [
        ("grid", ["schedule.cl", "schedule_grid.cl"]),
        ("ticket", ["schedule.cl", "schedule_locate.cl", "schedule_ticket.cl"]),
        ("stride", ["schedule.cl", "schedule_locate.cl", "schedule_stride.cl"]),
    ],
)
def test_a_program_holds_the_schedule_that_it_needs_and_no_other(schedule: str, files: list[str]) -> None:
    assert of_kind(config(schedule), "schedule") == files


def test_definitions_of_a_dense_buffer() -> None:
    assert buffer_defines("INPUT2", (60, 47, 5, 1), "uint8") == [
        "#define INPUT2_TYPE uchar",
        "#define INPUT2_DIMS (size_t []){ 60, 47, 5, 1 }",
        "#define INPUT2_PITCHES (size_t []){ 235, 5, 1, 1 }",
        "#define INPUT2_OFFSET 0",
    ]
    assert buffer_defines("OUTPUT0", (7, 9), "float16")[1:3] == [
        "#define OUTPUT0_DIMS (size_t []){ 7, 9, 1, 1 }",
        "#define OUTPUT0_PITCHES (size_t []){ 9, 1, 1, 1 }",
    ]


@pytest.mark.parametrize(("shape", "dtype"), [((1, 1, 1, 1, 1), "float32"), ((1,), "float64"), ((1,), "bool")])
def test_buffers_that_a_kernel_cannot_have_are_refused(shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        buffer_defines("INPUT0", shape, dtype)
    assert str(caught.value) == (
        f"INPUT0 is {dtype} of shape {list(shape)}: a kernel takes rank 4 at most and "
        "int8, uint8, int32, int64, float16, float32."
    )


def test_a_program_is_definitions_then_sources() -> None:
    sizes = {"experts": 8, "top_k": 2, "max_tokens": 5, "hidden": 6, "d_exponents": "none", "other": "unused"}
    buffers = [((10, 6), "float16"), ((100, 1), "int32"), ((5, 2), "float16")]
    text = program(COMBINE, SETTING, sizes, buffers, ((5, 6), "float32"))
    source = stage_source(COMBINE, SETTING)
    head, tail = text[: -len(source)], text[-len(source) :]
    assert tail == source
    for line in ("EXPERTS 8", "HIDDEN 6", "TILE_N 64", "LOCAL_SIZE 256", "INPUT1_TYPE int", "OUTPUT0_TYPE float"):
        assert f"#define {line}\n" in head
    assert "OTHER" not in head


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.op_type)
@pytest.mark.parametrize("micro", OTHER_FIELDS, ids=lambda micro: micro.name)
def test_every_stage_has_its_kernel(stage, micro: MicroKernel) -> None:
    source = stage_source(stage, config("ticket", micro=micro))
    assert len(re.findall(rf"kernel void {stage.entry}\(", source)) == 1
    named = {int(index) for index in re.findall(r"INPUT(\d+)_TYPE", source)}
    assert named >= set(range(stage.inputs)) - {1}  # input 1 is the plan, always int


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLAN_TOKENS", plan.TOKENS),
        ("PLAN_LIVE_ROWS", plan.LIVE_ROWS),
        ("PLAN_TILES", plan.TILES),
        ("PLAN_H_WIDE", plan.H_WIDE),
        ("PLAN_D_WIDE", plan.D_WIDE),
        ("PLAN_TICKET_GATE_UP", plan.TICKET_GATE_UP),
        ("PLAN_TICKET_DOWN", plan.TICKET_DOWN),
        ("PLAN_ROW_OFFSET", plan.HEADER),
        ("ID_PADDING", plan.ID_PADDING),
        ("ID_ABSENT", plan.ID_ABSENT),
        ("ROW_NONE", plan.ROW_NONE),
        ("ROW_INVALID", plan.ROW_INVALID),
    ],
)
def test_kernels_and_python_agree_on_the_plan(name: str, value: int) -> None:
    found = re.search(rf"#define {name} \(?(-?\d+)\)?", read_source("common.cl"))
    assert found
    assert int(found[1]) == value


def test_the_hash_changes_with_every_value_of_the_configuration() -> None:
    assert set(OTHER) == {field.name for field in fields(KernelConfig)}
    hashes = [source_hash(replace(SETTING, **{name: value})) for name, value in OTHER.items()]
    assert len({source_hash(SETTING), *hashes}) == len(OTHER) + 1
    assert source_hash(SETTING) == source_hash(config("ticket"))
    assert re.fullmatch("[0-9a-f]{16}", source_hash(SETTING))


@pytest.mark.parametrize("micro", OTHER_FIELDS, ids=lambda micro: micro.name)
def test_the_hash_changes_with_every_field_of_a_micro_kernel(micro: MicroKernel) -> None:
    others = OTHER_FIELDS[micro]
    left = {field.name for field in fields(micro)} - set(others)
    assert left <= {"local_size", "warps_m", "warps_n", "warps_k"}, "those of mma only change together"
    hashes = [source_hash(config("ticket", micro=replace(micro, **{name: value}))) for name, value in others.items()]
    assert len({source_hash(config("ticket", micro=micro)), *hashes}) == len(others) + 1


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Sources as a dict to change."""
    texts = {name: read_source(name) for name in SOURCES}
    monkeypatch.setattr(compose, "read_source", texts.__getitem__)
    return texts


@pytest.mark.parametrize("name", SOURCES)
def test_the_hash_changes_with_one_character_of_any_source_that_is_needed(name: str, sources: dict[str, str]) -> None:
    """And with no other: an edit of one micro-kernel, or schedule, leaves what is built of the others."""
    before = {kind: source_hash(setting) for kind, setting in SETTINGS.items()}
    assert "(" in sources[name]
    sources[name] = sources[name].replace("(", "((", 1)
    changed = {kind for kind, setting in SETTINGS.items() if source_hash(setting) != before[kind]}
    assert changed == {kind for kind, setting in SETTINGS.items() if name in needed(setting)}
    assert changed


def test_packed_weights_are_for_f16_alone() -> None:
    """In f32 fma would read them as they are not stored."""
    part = ProjectionSpec("u4", 64, 64, 32)
    block = BlockSpec(2, 1, 4, part, part, part)
    packed = config("ticket", micro=Mma(packed=True))
    buffers = [((4, 64), "float32"), ((100, 1), "int32"), *[((1,), "float32")] * 6]
    with pytest.raises(InvalidInputError, match="MoEGateUp in float32 takes weights as they are stored"):
        program(block.gate_up_stage, packed, block.attributes(), buffers, ((4, 64), "float32"))
