"""The choice of kernels: from workloads, devices and switches to configurations, nothing else asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from kernel_cases import with_micro
from micro_kernels import WORDS

from ov_moe.devices.xmx import smallest_subgroup, xmx_subgroup
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.choose import choose_model_config
from ov_moe.kernels.config import STANDARD, KernelConfig
from ov_moe.kernels.geometry import WorkSize
from ov_moe.kernels.layer_xml import layer_element
from ov_moe.kernels.micro import Dpas, Fma, Gemv, switch_words
from ov_moe.kernels.micro.dpas import LARGE_REGISTERS
from ov_moe.kernels.stages import DOWN, GATE_UP, STAGES
from ov_moe.spec import Activations, DeviceInfo, MicroKernelSwitch, Switches, Workload

QWEN3 = Workload(512, 128, 8, 2048, 768)
GPT_OSS = Workload(512, 32, 4, 2880, 2880, "f4e2m1")
FEW = 64
IRIS_XE, ARC, XE2 = DeviceInfo(96), DeviceInfo(512, 8), DeviceInfo(160, 16, subgroup=16)


def chosen(
    device: DeviceInfo, workload: Workload = QWEN3, switch: MicroKernelSwitch = "auto", real: Activations = "f16"
) -> tuple[KernelConfig, KernelConfig, str]:
    prefill = replace(workload, activations=real)
    both = choose_model_config(prefill, replace(prefill, tokens=FEW), device, Switches(micro_kernel=switch))
    return both.prefill, both.decode, both.why


def test_a_workload_counts_its_rows() -> None:
    assert (QWEN3.rows_per_expert, GPT_OSS.rows_per_expert) == (32, 64)


@pytest.mark.parametrize(
    ("device", "switch", "real", "kind", "why"),
    [
        (IRIS_XE, "auto", "f16", "fma", "no XMX of a kind that ov-moe knows"),
        (IRIS_XE, "fma", "f16", "fma", "asked for"),
        (ARC, "auto", "f16", "dpas", "XMX with sub-groups of 8 and f16 activations"),
        (XE2, "auto", "f16", "dpas", "XMX with sub-groups of 16 and f16 activations"),
        (ARC, "auto", "f32", "fma", "activations are f32, and XMX takes f16"),
        (ARC, "fma", "f16", "fma", "asked for"),
        (XE2, "dpas", "f32", "dpas", "asked for"),
    ],
)
def test_the_rule_and_the_switch(
    device: DeviceInfo, switch: MicroKernelSwitch, real: Activations, kind: str, why: str
) -> None:
    prefill, decode, reason = chosen(device, switch=switch, real=real)
    few = "gemv" if (kind, switch) == ("fma", "auto") else kind
    assert (prefill.micro.name, decode.micro.name, reason) == (kind, few, why)
    if kind == "dpas":
        assert prefill.micro == Dpas.of(device.xmx_subgroup)
        assert decode.micro == Dpas.of(device.xmx_subgroup, few=True)


@pytest.mark.parametrize(("top_k", "kind"), [(8, "gemv"), (32, "gemv"), (33, "fma")])
def test_gemv_is_for_few_rows_of_an_expert(top_k: int, kind: str) -> None:
    """64 tokens of 128 experts: 4 rows, 16 as Mixtral has, and more."""
    assert chosen(IRIS_XE, replace(QWEN3, top_k=top_k))[1].micro.name == kind


def test_gemv_takes_sub_groups_that_the_device_has() -> None:
    assert [chosen(device, real="f32")[1].micro.settings()["subgroup"] for device in (IRIS_XE, ARC, XE2)] == [8, 8, 16]
    # XMX of an architecture that is not known: maybe without sub-groups of 8.
    prefill, decode, _ = chosen(DeviceInfo(448, subgroup=16))
    assert (prefill.micro, decode.micro) == (Fma(), Gemv(subgroup=16))


def test_dpas_without_xmx_is_refused() -> None:
    """XMX of an architecture that is not known has sub-groups of an unknown size."""
    for device in (IRIS_XE, DeviceInfo(448, subgroup=16)):
        with pytest.raises(InvalidInputError) as caught:
            chosen(device, switch="dpas")
        assert str(caught.value) == (
            "micro_kernel is 'dpas', and the device has no XMX of a kind that ov-moe knows: leave it to 'auto' (for "
            "tests alone, 'dpas-emulated' computes the instruction by sub-group broadcasts, slowly)."
        )


def test_the_emulation_of_dpas_is_asked_for_by_name_and_says_so() -> None:
    real = chosen(ARC, switch="dpas")
    for device, groups in ((IRIS_XE, 192), (ARC, 1024)):
        prefill, decode, why = chosen(device, switch="dpas-emulated")
        assert (prefill, decode) == tuple(replace(with_micro(c, emulation=True), groups=groups) for c in real[:2])
        assert "for tests alone" in why
    assert chosen(XE2, switch="dpas-emulated")[0].micro == Dpas.of(16, emulation=True)


def test_another_word_is_refused() -> None:
    assert {"auto", "fma", "dpas", "dpas-emulated"} <= set(switch_words())
    with pytest.raises(InvalidInputError) as caught:
        chosen(ARC, switch="mma")
    assert str(caught.value) == f"micro_kernel is 'mma', it must be {WORDS}."


@pytest.mark.parametrize("device", [IRIS_XE, ARC, XE2], ids=["Iris Xe", "Arc", "Xe2"])
def test_the_micro_kernel_leaves_the_schedule_alone(device: DeviceInfo) -> None:
    for workload, schedule in ((QWEN3, "pool"), (GPT_OSS, "grid")):
        prefill, decode, _ = chosen(device, workload)
        assert (prefill.schedule, decode.schedule, decode.fetch) == (schedule, "pool", "ticket")
        assert prefill.groups == decode.groups == 2 * device.compute_units


@pytest.mark.parametrize("subgroup", [8, 16])
@pytest.mark.parametrize("few", [False, True], ids=["prefill", "decode"])
def test_fma_runs_in_the_tiles_of_dpas(few: bool, subgroup: int) -> None:
    """A kernel that the plugin builds for f32 buffers falls back in place: Fma would refuse other tiles."""
    tile = Dpas.of(subgroup, few)
    Fma(tile_m=tile.tile_m, tile_n=tile.tile_n, tile_k=tile.tile_k, local_size=tile.local_size)


def test_tiles_that_dpas_could_run_and_fma_could_not_are_refused() -> None:
    """24 work-items are three sub-groups of 8, but no whole number of fma's 16 lanes."""
    sizes = {"subgroup": 8, "tile_m": 24, "tile_n": 32, "local_size": 48, "subgroup_rows": 8}
    Dpas(**sizes)
    with pytest.raises(InvalidInputError, match="no multiple of local_size / 16"):
        Dpas(**{**sizes, "local_size": 24, "tile_n": 16})


def options(config: KernelConfig) -> dict[str, str]:
    layers = {
        stage.op_type: layer_element(stage, config, WorkSize((1, 1, 1), config.micro.local_size)) for stage in STAGES
    }
    return {name: layer.find("CompilerOptions").get("options") for name, layer in layers.items()}  # type: ignore


@pytest.mark.parametrize(("device", "large"), [(IRIS_XE, False), (ARC, True), (XE2, True)])
def test_compiler_options_reach_the_layer_file(device: DeviceInfo, large: bool) -> None:
    """32 rows of a sub-group need 256 registers; Route, Combine and decode would only lose threads by them."""
    prefill, decode, _ = chosen(device)
    multiply = {GATE_UP.op_type, "MoEGateUpFused", DOWN.op_type}
    expected = f"{STANDARD} {LARGE_REGISTERS}"
    for name, found in options(prefill).items():
        wide = large and name.removesuffix("Decode") in multiply
        assert found == (expected if wide else STANDARD), name
    assert set(options(decode).values()) == {STANDARD}
    assert LARGE_REGISTERS not in " ".join(options(chosen(IRIS_XE, switch="dpas-emulated")[0]).values())


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("12.0.0", 0),  # Tiger Lake: no XMX
        ("12.55.8", 8),  # Arc A770
        ("12.57.0", 8),  # Arc A580
        ("12.74.4", 8),  # Arrow Lake H
        ("12.60.7", 16),  # Ponte Vecchio
        ("12.61.7", 16),
        ("20.1.4", 16),  # Battlemage
        ("20.4.4", 16),  # Lunar Lake
        ("30.0.4", 16),  # Panther Lake
        ("unknown", 0),
        ("", 0),
        ("9.0.9", 0),
    ],
)
def test_the_sub_group_of_xmx(architecture: str, expected: int) -> None:
    capabilities: Sequence[str] = ["FP16", "GPU_HW_MATMUL"] if architecture != "12.0.0" else ["FP16"]
    assert xmx_subgroup(capabilities, architecture) == expected
    assert xmx_subgroup(["FP16"], architecture) == 0
    assert smallest_subgroup(["FP16"], architecture) == 8
    assert smallest_subgroup(capabilities, architecture) == (expected or (16 if "GPU_HW_MATMUL" in capabilities else 8))
