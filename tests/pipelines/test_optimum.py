"""optimum-intel: an optimised OVModelForCausalLM generates the tokens of the unfused one, in every mode."""

from __future__ import annotations

import gc
import re
import weakref

import openvino as ov
import pytest
from pipeline_folders import DEVICES, EXACT, MAX_TOKENS, NAMES, Folders, make, run_python

import ov_moe
import ov_moe.optimum

optimum = pytest.importorskip("optimum.intel", reason="optimum-intel is not installed: make pipelines")
torch = pytest.importorskip("torch")

NEW = 14
LENGTH = {"min_new_tokens": NEW, "max_new_tokens": NEW}


def _ids(array):
    return torch.from_numpy(array)


def _greedy(model, folders: Folders):
    return model.generate(_ids(folders.prompt(1)), do_sample=False, **LENGTH)


def _sampled(model, folders: Folders):
    torch.manual_seed(20)
    return model.generate(_ids(folders.prompt(2)), do_sample=True, temperature=0.9, top_k=40, **LENGTH)


def _beams(model, folders: Folders):
    return model.generate(
        _ids(folders.prompt(3)), num_beams=3, num_return_sequences=3, do_sample=False, early_stopping=True, **LENGTH
    )


def _unequal_batch(model, folders: Folders):
    ids = folders.prompt(4, batch=3)
    mask = torch.ones(ids.shape, dtype=torch.int64)
    for row, padding in enumerate((0, 13, 20)):  # padded on the left
        ids[row, :padding] = 0
        mask[row, :padding] = 0
    return model.generate(_ids(ids), attention_mask=mask, do_sample=False, **LENGTH)


def _long_chat(model, folders: Folders):
    """Five turns; each adds its prompt to the key-value cache of the turns before.

    By ``forward``: ``generate`` of transformers 5 takes no cache back from optimum-intel 2.2.
    """
    history, past = torch.zeros((1, 0), dtype=torch.int64), None
    for turn in range(5):
        new = _ids(folders.prompt(50 + turn, length=19))
        for _ in range(NEW):
            history = torch.cat([history, new], dim=1)
            done = model(input_ids=new, attention_mask=torch.ones_like(history), past_key_values=past)
            new, past = done.logits[:, -1:].argmax(-1), done.past_key_values
        assert model._past_length == history.shape[1]
    return history


MODES = {
    "greedy": _greedy,
    "sampled": _sampled,
    "three beams": _beams,
    "unequal batch": _unequal_batch,
    "long chat": _long_chat,
}


@pytest.fixture(scope="module", params=NAMES)
def folders(request, tmp_path_factory) -> Folders:
    return make(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=DEVICES)
def pair(request, folders):
    """The unfused model and one that was loaded with it and optimised."""
    models = [
        optimum.OVModelForCausalLM.from_pretrained(
            folders.unfused, device=request.param, ov_config=EXACT, compile=False
        )
        for _ in range(2)
    ]
    report = ov_moe.optimum.optimize(models[1], max_tokens=MAX_TOKENS)
    assert (len(report.rewritten), len(report.skipped)) == (2, 0), str(report)
    return models


@pytest.mark.parametrize("mode", MODES)
def test_the_same_tokens(pair, folders, mode):
    expected, found = (MODES[mode](model, folders) for model in pair)
    assert found.shape[1] >= 21 + NEW
    assert torch.equal(found, expected)


def test_a_folder_loaded_moved_saved_and_loaded(folders, tmp_path):
    """From a folder to the CPU plugin, to the GPU plugin, to another folder and back."""
    plain = optimum.OVModelForCausalLM.from_pretrained(folders.unfused, device="CPU", ov_config=EXACT)
    expected = _greedy(plain, folders)
    model = ov_moe.optimum.load(folders.fused, "CPU", ov_config=EXACT)
    assert model.request is not None
    assert torch.equal(_greedy(model, folders), expected)
    assert torch.equal(_greedy(model.to("GPU"), folders), expected)
    assert torch.equal(_greedy(model.to("cpu"), folders), expected)
    assert dict(model.ov_config).keys() == dict(plain.ov_config).keys()
    model.save_pretrained(tmp_path / "again")
    again = ov_moe.optimum.load(tmp_path / "again", "GPU", ov_config=EXACT, compile=False)
    assert again.request is None
    assert torch.equal(_greedy(again, folders), expected)


def test_a_model_that_was_compiled_before(folders):
    model = optimum.OVModelForCausalLM.from_pretrained(folders.unfused, device="CPU", ov_config=EXACT)
    expected = _greedy(model, folders)
    ov_moe.optimum.optimize(model, "on", max_tokens=MAX_TOKENS)
    assert torch.equal(_greedy(model, folders), expected)
    with pytest.raises(ov_moe.InvalidInputError, match="This OVModelForCausalLM is already optimised: use it as it is"):
        ov_moe.optimum.optimize(model)


def test_a_deleted_model_is_gone_at_once(folders):
    model = ov_moe.optimum.load(folders.fused, "CPU", ov_config=EXACT)
    gc.collect()
    gc.disable()
    try:
        gone = weakref.ref(model)
        del model
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("mode", ["OPTIMIZE_SPEED", "OPTIMIZE_SIZE"])
def test_the_model_cache_serves_a_second_process(folders, tmp_path, mode):
    """optimum-intel switches the cache on for a GPU; a cached model must run, and give the same."""
    code = f"""
import ov_moe.optimum, torch
config = {{**{EXACT!r}, "CACHE_DIR": "cache", "CACHE_MODE": {mode!r}}}
model = ov_moe.optimum.load({str(folders.fused)!r}, "GPU", ov_config=config)
ids = torch.tensor({folders.prompt(6).tolist()})
print(*model.generate(ids, do_sample=False, min_new_tokens=4, max_new_tokens=4)[0].tolist())
print(model.request.get_compiled_model().get_property("LOADED_FROM_CACHE"))
"""
    runs = []
    for _ in range(2):
        done = run_python(code, tmp_path)
        assert done.returncode == 0, done.stderr
        runs.append(done.stdout.splitlines())
    assert runs[0][:-1] == runs[1][:-1]
    assert [run[-1] for run in runs] == ["False", "True"]


# ---- errors ----


def _dense(device: str = "CPU"):
    """An OVModelForCausalLM without any MoE block."""
    from transformers import PretrainedConfig

    ids = ov.opset13.parameter([-1, -1], ov.Type.i64, name="input_ids")
    ids.output(0).get_tensor().set_names({"input_ids"})
    table = ov.opset13.constant([[0.0, 1.0], [2.0, 3.0]], ov.Type.f32)
    logits = ov.opset13.gather(table, ids, ov.opset13.constant(0))
    logits.output(0).get_tensor().set_names({"logits"})
    model = ov.Model([logits], [ids])
    return optimum.OVModelForCausalLM(model, PretrainedConfig(), device=device, compile=False, use_cache=False)


def test_a_model_without_moe():
    with pytest.raises(ov_moe.InvalidInputError, match=r"^No MoE block was found in this OVModelForCausalLM: use it"):
        ov_moe.optimum.optimize(_dense())


@pytest.mark.parametrize("device", ["AUTO", "HETERO:GPU,CPU", "NPU", "GPU.7"])
def test_a_device_that_is_not_served(folders, device):
    model = optimum.OVModelForCausalLM.from_pretrained(folders.unfused, device="CPU", compile=False)
    model.to(device)
    kinds = [op.get_type_name() for op in model.model.get_ordered_ops()]
    sentence = f"OpenVINO sees no {device} here" if device == "GPU.7" else f"Device {device!r} is not served"
    with pytest.raises(ov_moe.DeviceError, match=re.escape(sentence)):
        ov_moe.optimum.optimize(model)
    assert [op.get_type_name() for op in model.model.get_ordered_ops()] == kinds
    with pytest.raises(ov_moe.DeviceError, match=re.escape(sentence)):
        ov_moe.optimum.load(folders.fused, device)


def test_what_cannot_be_rewritten_or_loaded(folders):
    compiled = optimum.OVModelForCausalLM.from_pretrained(folders.unfused, device="CPU", compile_only=True)
    with pytest.raises(ov_moe.InvalidInputError, match="was loaded with compile_only=True: load it without"):
        ov_moe.optimum.optimize(compiled)
    with pytest.raises(ov_moe.InvalidInputError, match=r"^compile_only is not served"):
        ov_moe.optimum.load(folders.fused, "CPU", compile_only=True)
    with pytest.raises(ov_moe.InvalidInputError, match="is not optimised: load it with OVModelForCausalLM"):
        ov_moe.optimum.load(folders.unfused, "CPU")
    config = {"CONFIG_FILE": "mine.xml"}
    with pytest.raises(ov_moe.InvalidInputError, match=r"^The config names a CONFIG_FILE"):
        ov_moe.optimum.load(folders.fused, "GPU", ov_config=config)


def test_bad_arguments_leave_the_model_as_it_was(folders):
    model = optimum.OVModelForCausalLM.from_pretrained(folders.unfused, device="CPU", compile=False)
    with pytest.raises(ov_moe.InvalidInputError, match="balance is 'maybe'"):
        ov_moe.optimum.optimize(model, "maybe")
    with pytest.raises(ov_moe.InvalidInputError, match="max_tokens is 0, it must be a whole number"):
        ov_moe.optimum.optimize(model, max_tokens=0)
    assert len(ov_moe.optimum.optimize(model).rewritten) == 2
