"""Bad input to the pipelines' helpers, found before optimum-intel or openvino-genai is needed: one clear sentence."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import openvino as ov
import pytest
from pipeline_folders import DEMO

import ov_moe
import ov_moe.compiler
import ov_moe.genai
import ov_moe.optimum


def says(kind: type[Exception], sentence: str):
    return pytest.raises(kind, match=re.escape(sentence))


@pytest.fixture(scope="module")
def fused(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "fused"
    report = ov_moe.genai.optimize(DEMO, folder, "on", max_tokens=8)
    assert (len(report.rewritten), report.balance, report.max_tokens) == (2, "on", 8)
    return folder


def test_an_optimised_folder_holds_the_other_files(fused):
    assert sorted(path.name for path in fused.iterdir()) == sorted(path.name for path in DEMO.iterdir())
    assert (fused / "config.json").read_bytes() == (DEMO / "config.json").read_bytes()


def test_prepare_returns_the_properties_without_compiling(fused):
    core = ov.Core()
    ov_moe.register(core)
    model = core.read_model(fused / "openvino_model.xml")
    assert set(ov_moe.compiler.prepare(core, model, "CPU", {"PERF_COUNT": True})) == {"PERF_COUNT"}
    properties = ov_moe.compiler.prepare(core, model, "GPU")
    assert Path(properties["CONFIG_FILE"]).is_file()


def test_a_folder_without_a_model(tmp_path):
    with says(ov_moe.InvalidInputError, f"{tmp_path} holds no OpenVINO IR"):
        ov_moe.genai.optimize(tmp_path, tmp_path.with_name("new"))
    with says(ov_moe.InvalidInputError, f"There is no openvino_model.xml in {tmp_path}: give the folder of"):
        ov_moe.genai.pipeline(tmp_path)


def test_a_folder_that_openvino_cannot_read(tmp_path):
    (tmp_path / "openvino_model.xml").write_text("<net>", encoding="utf-8")
    (tmp_path / "openvino_model.bin").touch()
    with says(ov_moe.InvalidInputError, f"OpenVINO cannot read {tmp_path / 'openvino_model.xml'}: "):
        ov_moe.genai.pipeline(tmp_path)


def test_a_folder_that_was_not_optimised():
    with says(ov_moe.InvalidInputError, f"The model in {DEMO} is not optimised: write an optimised folder with"):
        ov_moe.genai.pipeline(DEMO, "CPU")


def test_a_folder_that_was_optimised_before(fused, tmp_path):
    with says(ov_moe.InvalidInputError, f"The model in {fused} is already optimised: give the folder to"):
        ov_moe.genai.optimize(fused, tmp_path / "new")


def test_a_model_without_moe(tmp_path):
    x = ov.opset13.parameter([-1, 4], ov.Type.f32)
    y = ov.opset13.matmul(x, ov.opset13.constant([[1.0, 2.0, 3.0, 4.0]], ov.Type.f32), False, True)
    source, target = tmp_path / "dense", tmp_path / "new"
    ov.save_model(ov.Model([y], [x]), source / "openvino_model.xml")
    sentence = f"The model in {source} has no MoE block that can be rewritten: none was found."
    with says(ov_moe.InvalidInputError, sentence):
        ov_moe.genai.optimize(source, target)
    assert not target.exists()


def test_a_target_that_holds_something(tmp_path):
    (tmp_path / "kept.txt").write_text("mine", encoding="utf-8")
    with says(ov_moe.InvalidInputError, f"{tmp_path} exists already: name another folder"):
        ov_moe.genai.optimize(DEMO, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.parametrize("device", ["AUTO", "HETERO:GPU,CPU", "NPU"])
def test_a_device_that_is_not_served(fused, device):
    with says(ov_moe.DeviceError, f"Device {device!r} is not served: use 'GPU', 'GPU.n', 'AUTO:GPU' or 'CPU'"):
        ov_moe.genai.pipeline(fused, device)


def test_a_gpu_that_is_not_there(fused):
    with says(ov_moe.DeviceError, "OpenVINO sees no GPU.7 here"):
        ov_moe.genai.pipeline(fused, "GPU.7")


def test_a_config_file_of_the_users_own(fused):
    with says(ov_moe.InvalidInputError, "The config names a CONFIG_FILE, and the GPU plugin takes only one"):
        ov_moe.genai.pipeline(fused, "GPU", CONFIG_FILE="mine.xml")


def test_genai_is_not_installed(fused, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    with says(ov_moe.DeviceError, "openvino-genai cannot be imported ("):
        ov_moe.genai.pipeline(fused, "CPU")


def test_optimum_is_not_installed(fused, monkeypatch):
    monkeypatch.setitem(sys.modules, "optimum.intel.openvino.modeling_base", None)
    with says(ov_moe.DeviceError, "optimum-intel cannot be imported ("):
        ov_moe.optimum.load(fused, "CPU")


@pytest.mark.parametrize("model", [None, "folder", ov.Model([], [])], ids=["None", "str", "Model"])
def test_what_is_no_ovmodel(model):
    sentence = (
        "ov_moe.optimum.optimize takes a model of optimum-intel, such as OVModelForCausalLM, "
        f"this is {type(model).__name__}."
    )
    with says(ov_moe.InvalidInputError, sentence):
        ov_moe.optimum.optimize(model)


def test_a_folder_without_any_model(tmp_path):
    with says(ov_moe.InvalidInputError, f"There is no OpenVINO model in {tmp_path}: give a folder that"):
        ov_moe.optimum.load(tmp_path)
