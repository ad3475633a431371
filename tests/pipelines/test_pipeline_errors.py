"""Bad input to the pipelines' helpers, found before optimum-intel or openvino-genai is needed: one clear sentence."""

from __future__ import annotations

import re
import shutil
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
    expected = {path.name for path in DEMO.iterdir()} | {"ov_moe_manifest.json"}
    assert {path.name for path in fused.iterdir()} == expected
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
    (tmp_path / "openvino_model.xml").write_text("<net version='11'>", encoding="utf-8")
    (tmp_path / "openvino_model.bin").touch()
    with says(ov_moe.InvalidInputError, f"{tmp_path / 'openvino_model.xml'} is broken XML (no element found"):
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


def test_a_target_is_replaced_where_that_is_asked(fused, tmp_path):
    ov_moe.genai.optimize(DEMO, tmp_path / "new", max_tokens=8)
    with says(ov_moe.InvalidInputError, "or replace it with --force (in Python force=True)."):
        ov_moe.genai.optimize(DEMO, tmp_path / "new", max_tokens=16)
    ov_moe.genai.optimize(DEMO, tmp_path / "new", max_tokens=16, force=True)
    assert (tmp_path / "new" / "openvino_model.xml").read_bytes() != (fused / "openvino_model.xml").read_bytes()


@pytest.mark.parametrize("device", ["AUTO", "HETERO:GPU,CPU", "NPU", None, 5])
def test_a_device_that_is_not_served(fused, device):
    with says(ov_moe.DeviceError, f"Device {device!r} is not served: use 'GPU', 'GPU.n', 'AUTO:GPU', 'MULTI:GPU' or"):
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


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("source", lambda fused: ov_moe.genai.optimize(None, fused)),
        ("target", lambda fused: ov_moe.genai.optimize(DEMO, None)),
        ("folder", lambda fused: ov_moe.genai.pipeline(None)),
        ("folder", lambda fused: ov_moe.optimum.load(None)),
        ("folder", lambda fused: ov_moe.optimum.load(5)),
    ],
)
def test_what_is_no_path(fused, name, call):
    with pytest.raises(ov_moe.InvalidInputError, match=rf"^{name} is of type (NoneType|int), it must be a path\.$"):
        call(fused)


# What breaks an optimised folder, and the sentence of both helpers.
BROKEN = {
    "a garbage .xml": (lambda folder: (folder / "openvino_model.xml").write_text("garbage"), "is broken XML (syntax"),
    "half an .xml": (lambda folder: _cut(folder / "openvino_model.xml"), "is broken XML ("),
    "no .bin": (lambda folder: (folder / "openvino_model.bin").unlink(), "there is no openvino_model.bin beside it"),
    "half a .bin": (lambda folder: _cut(folder / "openvino_model.bin"), "(Incorrect weights in bin file): "),
}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def copied(fused, tmp_path) -> Path:
    return Path(shutil.copytree(fused, tmp_path / "copy"))


def _one_sentence(kind: type[Exception], call, *parts: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize("fault", BROKEN)
def test_genai_on_a_broken_folder(copied, fault):
    spoil, sentence = BROKEN[fault]
    spoil(copied)
    _one_sentence(ov_moe.InvalidInputError, lambda: ov_moe.genai.pipeline(copied, "CPU"), sentence, "again")


@pytest.mark.parametrize("fault", BROKEN)
def test_optimum_on_a_broken_folder(copied, fault):
    pytest.importorskip("optimum.intel", reason="optimum-intel is not installed: make pipelines")
    spoil, sentence = BROKEN[fault]
    spoil(copied)
    _one_sentence(ov_moe.InvalidInputError, lambda: ov_moe.optimum.load(copied, "CPU"), str(copied), sentence)


def test_optimum_without_a_configuration(copied):
    pytest.importorskip("optimum.intel", reason="optimum-intel is not installed: make pipelines")
    (copied / "config.json").unlink()
    sentence = f"optimum-intel cannot load {copied} as OVModelForCausalLM, there is no config.json in it ("
    _one_sentence(ov_moe.InvalidInputError, lambda: ov_moe.optimum.load(copied, "CPU"), sentence)


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        (ov_moe.DeviceError, {"device": None}, "Device None is not served: "),
        (ov_moe.InvalidInputError, {"model_class": str}, "model_class is <class 'str'>, it must be an OVModel class"),
        (ov_moe.InvalidInputError, {"ov_config": "x"}, "('str' object is not a mapping)"),
        (ov_moe.InvalidInputError, {"ov_config": {"FOO": 1}}, "OpenVINO cannot compile OVModelForCausalLM for CPU: "),
    ],
)
def test_optimum_with_an_option_that_is_none(fused, kind, options, sentence):
    pytest.importorskip("optimum.intel", reason="optimum-intel is not installed: make pipelines")
    _one_sentence(kind, lambda: ov_moe.optimum.load(fused, **{"device": "CPU", **options}), sentence)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"FOO": "x"}, "Unsupported property FOO by CPU plugin; correct that, or leave it out."),
        ({"ATTENTION_BACKEND": "XX"}, "Attention backend must be either 'PA' or 'SDPA', got 'XX'; correct that"),
        ({"extensions": None}, "extensions is of type NoneType, it must be a list."),
        ({"extensions": ["/nowhere.so"]}, "OpenVINO cannot load the extension /nowhere.so: "),
    ],
)
def test_genai_with_an_option_that_is_none(fused, options, sentence):
    pytest.importorskip("openvino_genai", reason="openvino-genai is not installed: make pipelines")
    _one_sentence(ov_moe.OvMoeError, lambda: ov_moe.genai.pipeline(fused, "CPU", **options), sentence)


def test_a_pipeline_without_a_tokenizer_says_how_to_make_one(copied, caplog):
    """Prompts of token ids need none, so that it is a warning; a folder with both files gives none."""
    pytest.importorskip("openvino_genai", reason="openvino-genai is not installed: make pipelines")
    ov_moe.genai.pipeline(copied, "CPU")
    (message,) = caplog.messages
    assert message.startswith(f"{copied} has no openvino_tokenizer.xml and no openvino_detokenizer.xml, so that the")
    assert f"`convert_tokenizer MODEL --with-detokenizer -o {copied}`" in message
