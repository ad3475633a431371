"""The custom-layer file: what it is named by, and that it appears whole."""

from __future__ import annotations

from pathlib import Path

import openvino as ov
import pytest
from kernel_cases import config

from ov_moe.compiler import large_buffers
from ov_moe.errors import OutputError
from ov_moe.kernels import compose, geometry, layer_xml
from ov_moe.kernels.choose import choose_model_config
from ov_moe.kernels.config import LARGE_BUFFERS, ModelConfig
from ov_moe.kernels.geometry import WorkSize
from ov_moe.kernels.layer_xml import layers
from ov_moe.kernels.stages import STAGES
from ov_moe.spec import DeviceInfo, Switches, Workload

CONFIG = ModelConfig(config("ticket"), config("ticket", tile_m=8))
SIZES = {stage.op_type: WorkSize((7, 1, 1), geometry.local_size(stage, CONFIG.of(stage))) for stage in STAGES}
PREFILL, DECODE = Workload(512, 128, 8, 2048, 768), Workload(64, 128, 8, 2048, 768)


def test_the_build_follows_all_that_a_kernel_is_built_with(monkeypatch: pytest.MonkeyPatch) -> None:
    builds = [layers(CONFIG, SIZES).build, layers(CONFIG, SIZES, large_buffers=True).build]
    builds.append(layers(CONFIG, {**SIZES, "MoERoute": WorkSize((8, 1, 1), 256)}).build)
    for device in (DeviceInfo(96), DeviceInfo(512, 8), DeviceInfo(160, 16, subgroup=16)):
        builds.append(layers(choose_model_config(PREFILL, DECODE, device, Switches(groups=7)), SIZES).build)
    monkeypatch.setattr(layer_xml, "STANDARD", "-cl-std=CL3.0")
    builds.append(layers(CONFIG, SIZES).build)
    text = compose.read_source("route.cl")
    monkeypatch.setattr(compose, "read_source", lambda name: text + "// another version")
    builds.append(layers(CONFIG, SIZES).build)
    assert len(set(builds)) == len(builds)


def test_a_file_appears_once_and_whole(tmp_path: Path) -> None:
    found = layers(CONFIG, SIZES)
    path = found.write(tmp_path / "new")
    assert path.read_text(encoding="utf-8") == found.text
    assert sorted(file.name for file in path.parent.iterdir()) == sorted([*found.sources, "layers.xml"])
    assert found.write(tmp_path / "new") == path
    assert list((tmp_path / "new").iterdir()) == [path.parent]


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"could not be written \(.*\): let OV_MOE_CACHE name a folder that can\."):
        layers(CONFIG, SIZES).write(tmp_path / "file")


def test_a_draft_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="No space left on device"):
        layers(CONFIG, SIZES).write(tmp_path)
    assert list(tmp_path.rglob("*")) == [tmp_path / layers(CONFIG, SIZES).build]


@pytest.mark.parametrize(
    ("rows", "kind", "properties", "large"),
    [
        (2**22, "f16", {}, False),  # 4 GiB less 1 KiB in all
        (2**22 + 1, "f16", {}, True),
        (2**23, "u4", {}, False),
        (2**24 + 2, "u4", {}, True),
        (1, "f16", {"GPU_ENABLE_LARGE_ALLOCATIONS": True}, True),
        (1, "f16", {"GPU_ENABLE_LARGE_ALLOCATIONS": "NO"}, False),
    ],
)
def test_buffers_above_4_gib(rows: int, kind: str, properties: dict[str, object], large: bool) -> None:
    """Shapes alone: nothing is allocated."""
    from openvino import opset13 as op

    x = op.parameter([rows, 512], getattr(ov.Type, kind))
    assert large_buffers([op.reshape(x, [-1], False)], properties) == large
    if large:
        options = layers(CONFIG, SIZES, large_buffers=True).text
        assert options.count(LARGE_BUFFERS) == len(STAGES)
        assert LARGE_BUFFERS not in layers(CONFIG, SIZES).text
