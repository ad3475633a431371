"""The tile for tensor cores: a pure function of a workload, each branch by the workload that asked for it."""

from __future__ import annotations

import pytest

from ov_moe.kernel_bench.mma import Mma
from ov_moe.kernels.choose import choose_config
from ov_moe.kernels.config import KernelConfig
from ov_moe.spec import DeviceInfo, Precision, Workload


def tile(tokens: int, packed: bool, shape: str = "qwen3", precision: Precision = "u4") -> KernelConfig:
    sizes = {"qwen3": (128, 8, 2048, 768), "gpt-oss": (32, 4, 2880, 2880)}[shape]
    workload = Workload(tokens, *sizes, precision)
    return Mma.placed(choose_config("on", sizes[0], 132), workload, DeviceInfo(132), packed=packed)


@pytest.mark.parametrize(
    ("shape", "tokens", "packed", "sizes"),
    [
        ("qwen3", 16, False, (16, 64, 128)),
        ("qwen3", 128, False, (32, 128, 64)),
        ("gpt-oss", 16, True, (32, 128, 64)),
        ("gpt-oss", 128, True, (64, 128, 64)),
        ("qwen3", 1024, True, (64, 128, 64)),
        ("qwen3", 1024, False, (32, 128, 64)),
        ("qwen3", 2048, True, (64, 256, 64)),
        ("gpt-oss", 1024, True, (64, 256, 64)),
        ("qwen3", 4096, True, (128, 128, 64)),
        ("gpt-oss", 8192, True, (128, 128, 64)),
        ("gpt-oss", 8192, False, (64, 128, 64)),
    ],
)
def test_tile_of_a_workload(shape: str, tokens: int, packed: bool, sizes: tuple[int, int, int]) -> None:
    found = tile(tokens, packed, shape)
    assert isinstance(found.micro, Mma)
    assert (found.micro.tile_m, found.micro.tile_n, found.micro.tile_k) == sizes
    assert found.micro.packed == packed
    assert found.groups % 132 == 0


def test_other_widths_are_never_packed() -> None:
    for precision in ("u8", "i8", "f16"):
        found = tile(4096, True, precision=precision)
        assert isinstance(found.micro, Mma)
        assert (found.micro.packed, found.micro.tile_k) == (False, 32)


def test_route_is_larger_where_there_is_more_to_count() -> None:
    assert tile(16, False).route_size == 256
    assert tile(128, False).route_size == 1024
