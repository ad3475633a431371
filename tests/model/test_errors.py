"""Bad input: one sentence that names what is wrong, where, and what to do."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from blocks_on_plugin import F32, SMALL
from micro_kernels import WORDS

import ov_moe
from ov_moe.ops import MoECombine, MoEDown, MoEGateUp, MoERoute
from ov_moe.testing.graphs import moe_block_model


@pytest.fixture(scope="module")
def core() -> ov.Core:
    return ov.Core()


@pytest.fixture
def plain() -> ov.Model:
    """A model without any MoE block."""
    x = ov.opset13.parameter([-1, 4], ov.Type.f32)
    return ov.Model([ov.opset13.relu(x)], [x])


@pytest.fixture
def optimised(rng) -> ov.Model:
    model, _ = moe_block_model(rng=rng, **SMALL)
    ov_moe.optimize(model, max_tokens=8)
    return model


def says(kind: type[Exception], sentence: str):
    return pytest.raises(kind, match=re.escape(sentence))


def test_a_model_without_moe_is_reported_and_unchanged(plain):
    before = [op.get_friendly_name() for op in plain.get_ordered_ops()]
    report = ov_moe.optimize(plain)
    assert (report.rewritten, report.skipped) == ((), ())
    assert str(report) == "No MoE block was found: the model is unchanged; compile it with core.compile_model."
    assert [op.get_friendly_name() for op in plain.get_ordered_ops()] == before


def test_compile_without_optimize(core, plain):
    with says(ov_moe.InvalidInputError, "The model holds no ov-moe operation: call ov_moe.optimize(model) first"):
        ov_moe.compile_model(core, plain, "GPU")


def test_optimize_takes_a_model():
    with says(ov_moe.InvalidInputError, "optimize takes an openvino.Model, this is str: read the IR first."):
        ov_moe.optimize("model.xml")  # type: ignore[arg-type]


@pytest.mark.parametrize("balance", ["yes", "", True])
def test_balance_is_one_of_three_words(plain, balance):
    with says(ov_moe.InvalidInputError, f"balance is {balance!r}, it must be 'auto', 'on' or 'off'."):
        ov_moe.optimize(plain, balance)


def test_few_tokens_are_no_more_than_max_tokens(optimised, plain):
    sentence = "few_tokens is 1000, more than the 512 of max_tokens: raise max_tokens (OV_MOE_MAX_TOKENS) too"
    for model in (optimised, plain):
        with says(ov_moe.InvalidInputError, sentence):
            ov_moe.optimize(model, few_tokens=1000)


@pytest.mark.parametrize("max_tokens", [0, -1, 65537, 1.5, True, "8"])
def test_max_tokens_is_a_count(plain, max_tokens):
    with says(ov_moe.InvalidInputError, f"max_tokens is {max_tokens!r}, it must be a whole number from 1 to 65536."):
        ov_moe.optimize(plain, max_tokens=max_tokens)


@pytest.mark.parametrize(
    "device", ["HETERO:GPU,CPU", "HETERO:GPU", "AUTO", "AUTO:CPU,GPU", "MULTI:GPU,CPU", "NPU", "gpu", "GPU.x", ""]
)
def test_devices_that_are_not_served(core, optimised, device):
    with says(
        ov_moe.DeviceError, f"Device {device!r} is not served: use 'GPU', 'GPU.n', 'AUTO:GPU', 'MULTI:GPU' or 'CPU'"
    ):
        ov_moe.compile_model(core, optimised, device)


@pytest.mark.parametrize("device", [None, 5])
def test_a_device_is_text(core, optimised, device):
    with says(ov_moe.DeviceError, f"Device {device!r} is not served: use 'GPU'"):
        ov_moe.compile_model(core, optimised, device)


@pytest.mark.parametrize("model", ["x.xml", Path("x.xml"), None], ids=str)
def test_compile_model_takes_a_model(core, model):
    with says(ov_moe.InvalidInputError, f"model is of type {type(model).__name__}, it must be an openvino.Model"):
        ov_moe.compile_model(core, model)


def test_compile_model_takes_a_core(optimised):
    with says(ov_moe.InvalidInputError, "core is of type NoneType, it must be an openvino.Core."):
        ov_moe.compile_model(None, optimised)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("x", "config is of type str, it must be a mapping of properties, or None."),
        ({1: 2}, "The config's key 1 is of type int, it must be a property's name."),
    ],
)
def test_a_config_maps_names(core, optimised, config, sentence):
    with says(ov_moe.InvalidInputError, sentence):
        ov_moe.compile_model(core, optimised, "GPU", config)


@pytest.mark.parametrize(
    ("device", "config", "parts"),
    [
        (
            "GPU",
            {"INFERENCE_PRECISION_HINT": "bf16"},
            ("Invalid value: bf16", "Supported values: { f16, f32, dynamic }"),
        ),
        ("GPU", {"FOO": 1}, ("Option not found: FOO",)),
        ("CPU", {"FOO": 1}, ("Unsupported property FOO by CPU plugin",)),
        ("CPU", {"INFERENCE_PRECISION_HINT": "foo"}, ("Wrong value foo", "Supported values: bf16, f16, f32")),
    ],
)
def test_a_property_that_openvino_refuses(core, optimised, device, config, parts):
    with says(ov_moe.InvalidInputError, f"OpenVINO cannot compile the model for {device}: ") as caught:
        ov_moe.compile_model(core, optimised, device, config)
    sentence = str(caught.value)
    assert all(part in sentence for part in parts), sentence
    assert sentence.endswith("; correct that, or leave it out.")
    assert "\n" not in sentence
    assert "Exception from" not in sentence
    assert "Exception from" in str(caught.value.__cause__)


def test_a_gpu_that_is_not_there(core, optimised):
    with says(ov_moe.DeviceError, "OpenVINO sees no GPU.7 here (only CPU, GPU)"):
        ov_moe.compile_model(core, optimised, "GPU.7")


def test_a_config_file_of_the_users_own(core, optimised):
    with says(ov_moe.InvalidInputError, "The config names a CONFIG_FILE, and the GPU plugin takes only one"):
        ov_moe.compile_model(core, optimised, "GPU", {"CONFIG_FILE": "mine.xml"})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fetch": "random"}, "fetch is 'random', it must be 'ticket' or 'stride'."),
        ({"micro_kernel": "mma"}, f"micro_kernel is 'mma', it must be {WORDS}."),
        ({"groups": 0}, "groups is 0, it must be a whole number from 1 to 1048576."),
    ],
)
@pytest.mark.parametrize("device", ["GPU", "CPU"])
def test_bad_schedule_options(core, optimised, device, options, sentence):
    with says(ov_moe.InvalidInputError, sentence):
        ov_moe.compile_model(core, optimised, device, **options)


@pytest.mark.parametrize(
    ("of_the_core", "config", "ratio"),
    [
        (0, {"OFFLOAD_RATIO": 50}, "50"),
        (0, {"OFFLOAD_RATIO": "50"}, "50"),
        (50, {}, "50"),
        (50, {"OFFLOAD_RATIO": 0}, None),
        (0, {"OFFLOAD_RATIO": "0"}, None),
        (0, {}, None),
    ],
)
def test_a_share_to_offload_is_not_for_these_blocks(optimised, caplog, of_the_core, config, ratio):
    core = ov.Core()
    core.set_property("GPU", {"OFFLOAD_RATIO": of_the_core})
    ov_moe.compile_model(core, optimised, "GPU", config)
    said = [record.getMessage() for record in caplog.records if record.name == "ov_moe"]
    expected = (
        f"OFFLOAD_RATIO is {ratio}, and only the GPU plugin's own MoE operation reads it: the blocks that ov-moe "
        "rewrote keep all their weights in the device's memory, so leave it out, or compile the original model."
    )
    assert said == ([expected] if ratio else [])


def test_an_id_out_of_range_on_the_cpu(core, rng):
    model, _ = moe_block_model(rng=rng, **{**SMALL, "topk_as_inputs": True})
    ov_moe.optimize(model, max_tokens=8)
    compiled = ov_moe.compile_model(core, model, "CPU", F32)
    inputs = {
        "x": rng.standard_normal((3, 64)).astype(np.float32),
        "ids": np.array([[0, 1], [2, 8], [3, 4]], np.int32),
        "weights": np.ones((3, 2), np.float32),
    }
    sentence = "top-k id 8 of token 1, slot 1 is out of range: it must be -1 (padding) or 0 to 7."
    with says(RuntimeError, sentence):
        compiled(inputs)


def _parameter(shape: list[int], kind: ov.Type = ov.Type.f32) -> ov.Output:
    return ov.opset13.parameter(shape, kind).output(0)


SIZES = {"experts": 8, "top_k": 2, "max_tokens": 4}
PLAN = [48 + 2 * 9 + 2 * 8, 1, 1, 1]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: MoERoute([_parameter([4, 2], ov.Type.i32)], **SIZES),
            "input 0 (ids) has shape [4,2], it must be [4, 2, 1, 1]",
        ),
        (
            lambda: MoERoute([_parameter([4, 3, 1, 1], ov.Type.i32)], **SIZES),
            "input 0 (ids) has shape [4,3,1,1], it must be [4, 2, 1, 1]",
        ),
        (lambda: MoERoute([_parameter([4, 2, 1, 1], ov.Type.i64)], **SIZES), "input 0 (ids) is i64, it must be i32"),
        (
            lambda: MoERoute([_parameter([4, 2, 1, 1], ov.Type.i32)] * 2, **SIZES),
            "MoERoute of layer none has 2 inputs, it takes 1.",
        ),
        (
            lambda: MoEDown(
                [_parameter([8, 6, 1, 1]), _parameter([9, 1, 1, 1], ov.Type.i32), *[_parameter([1])] * 4],
                **{**SIZES, "hidden": 4, "intermediate": 6},
            ),
            "MoEDown of layer none: input 1 (plan) has shape [9,1,1,1], it must be [82, 1, 1, 1]",
        ),
        (
            lambda: MoEGateUp(
                [
                    _parameter([4, 4, 1, 1]),
                    _parameter(PLAN, ov.Type.i32),
                    _parameter([7, 6, 4]),
                    *[_parameter([1])] * 5,
                ],
                **{**SIZES, "hidden": 4, "intermediate": 6},
            ),
            "input 2 (gate weights) has shape [7,6,4], it must hold 192 elements.",
        ),
        (
            lambda: MoEGateUp(
                [_parameter([4, 4, 1, 1], ov.Type.bf16), _parameter(PLAN, ov.Type.i32), *[_parameter([1])] * 6],
                **{**SIZES, "hidden": 4, "intermediate": 6},
            ),
            "input 0 (x) is bf16, it must be f32 or f16.",
        ),
        (
            lambda: MoECombine(
                [_parameter([8, 5, 1, 1]), _parameter(PLAN, ov.Type.i32), _parameter([4, 2, 1, 1])], **SIZES, hidden=4
            ),
            "MoECombine of layer none: input 0 (d) has shape [8,5,1,1], it must be [8, 4, 1, 1].",
        ),
    ],
)
def test_operations_check_their_inputs(make, sentence):
    with says(Exception, sentence):
        make()
