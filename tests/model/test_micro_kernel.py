"""dpas in the product: the real GPU plugin builds it for f16 buffers, and fma in its tiles for f32 buffers.

The virtual GPU has no XMX, so ``dpas-emulated`` is what runs there, and ``dpas`` is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import openvino as ov
import pytest
from blocks import random_ids, same_bits
from blocks_on_plugin import our_launches, until_nothing_is_built
from exported import EXACT, difference, logits, vocabulary_of

import ov_moe
from ov_moe import virtual_gpu
from ov_moe.compiler import kernel_config, prepare
from ov_moe.demo import MODEL
from ov_moe.devices.target import Target, activations, parse_target
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.micro import Dpas, Fma, Gemv
from ov_moe.spec import MicroKernelSwitch
from ov_moe.testing.families import PRECISIONS, example

HALF = {**EXACT, "INFERENCE_PRECISION_HINT": "f16"}
Logits = list[np.ndarray]
BLOCKS = [("Qwen3-MoE", "u4"), ("Qwen3-MoE", "u8"), ("GPT-OSS", "mxfp4"), ("halves by two Slices", "i4 by channel")]


@pytest.fixture(scope="module")
def core() -> ov.Core:
    return ov.Core()


def read(core: ov.Core) -> ov.Model:
    """A Qwen3-MoE as optimum-intel exports it: 2 layers of 64 experts, top 8, u4 in groups of 32."""
    return core.read_model(MODEL / "openvino_model.xml")


def rewritten(core: ov.Core, balance: str = "on") -> ov.Model:
    """Prompts of 20, 13 and 2 x 9 tokens go through the loop, in two chunks or one; decode steps do not."""
    model = read(core)
    report = ov_moe.optimize(model, balance, max_tokens=16, few_tokens=8)  # type: ignore[arg-type]
    assert (len(report.rewritten), report.skipped) == (2, ())
    return model


def run(core: ov.Core, hint: dict[str, Any], kind: MicroKernelSwitch, balance: str = "on") -> Logits:
    """Logits after a warm-up: the plugin replaces kernels of its own while the first inferences run."""
    compiled = ov_moe.compile_model(core, rewritten(core, balance), "GPU", hint, micro_kernel=kind)
    until_nothing_is_built(lambda: logits(compiled, VOCABULARY))
    virtual_gpu.reset()
    found = logits(compiled, VOCABULARY)
    assert our_launches()["ov_moe_gate_up"].count > 0
    return found


VOCABULARY = vocabulary_of(read(ov.Core()))


@pytest.fixture(scope="module")
def reference(core: ov.Core) -> Logits:
    return logits(core.compile_model(read(core), "CPU", EXACT), VOCABULARY)


@pytest.fixture(scope="module")
def half(core: ov.Core) -> Logits:
    return run(core, HALF, "dpas-emulated")


def equal(one: Logits, other: Logits) -> bool:
    return all(same_bits(a, b) for a, b in zip(one, other, strict=True))


def test_f16_is_no_worse_than_unfused(core: ov.Core, reference: Logits, half: Logits) -> None:
    """The budget of test_exported.py: at most 1.5 times the error of the unfused model with the same hint."""
    compiled = core.compile_model(read(core), "GPU", HALF)
    until_nothing_is_built(lambda: logits(compiled, VOCABULARY))
    unfused = difference(logits(compiled, VOCABULARY), reference)
    fused = difference(half, reference)
    print(f"f16: max |logit error| / max |logit| = {fused.error:.2e} dpas, {unfused.error:.2e} unfused")
    assert 1e-5 < fused.error <= 1.5 * unfused.error


def test_f16_runs_dpas_and_not_fma(core: ov.Core, half: Logits) -> None:
    """It rounds weights to f16, which fma does not: the last bits tell them apart."""
    assert not equal(half, run(core, HALF, "fma"))


def test_balance_does_not_change_a_bit(core: ov.Core, half: Logits) -> None:
    assert equal(half, run(core, HALF, "dpas-emulated", "off"))


def test_f32_falls_back_to_fma(core: ov.Core, reference: Logits) -> None:
    """The same text, built for f32 buffers: the sums of fma in its own tiles, bit for bit, and exact."""
    found = run(core, EXACT, "dpas-emulated")
    assert equal(found, run(core, EXACT, "fma"))
    off = difference(found, reference)
    print(f"f32: max |logit error| / max |logit| = {off.error:.2e}")
    assert off.error <= 1e-5
    assert off.same_tokens


@pytest.mark.parametrize(("family", "precision"), BLOCKS)
def test_a_block_is_no_further_off_than_unfused(
    core: ov.Core, rng: np.random.Generator, family: str, precision: str
) -> None:
    """No router and no attention: against the float64 oracle, for few tokens and for a prompt of three chunks."""
    given = example(family, rng, topk_as_inputs=True, experts=8, **PRECISIONS[precision])
    (weights,) = given.weights
    unfused = core.compile_model(given.model.clone(), "GPU", HALF)
    ov_moe.optimize(given.model, max_tokens=16, few_tokens=8)
    fused = ov_moe.compile_model(core, given.model, "GPU", HALF, micro_kernel="dpas-emulated")
    for tokens in (1, 7, 37):
        x = rng.standard_normal((tokens, given.hidden)).astype(np.float16).astype(np.float32)
        ids, factors = random_ids(rng, tokens, 8, given.top_k), rng.random((tokens, given.top_k)).astype(np.float16)
        inputs = {"x": x, "ids": ids, "weights": factors.astype(np.float32)}
        expected = weights.oracle(x, ids, factors.astype(np.float64))
        ours, plugins = (
            float(np.abs(compiled(inputs)["y"].reshape(expected.shape) - expected).max() / np.abs(expected).max())
            for compiled in (fused, unfused)
        )
        print(f"{family} {precision} T={tokens}: {ours:.1e} dpas, {plugins:.1e} unfused")
        assert 0 < ours <= plugins


def layers(properties: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Definitions, compiler options and micro-kernels of each GEMM of a layer file."""
    text = Path(properties["CONFIG_FILE"]).read_text(encoding="utf-8")
    return {
        layer.attrib["name"]: {
            **{d.attrib["name"]: d.attrib.get("default", "") for d in layer.iter("Define")},
            "options": next(layer.iter("CompilerOptions")).attrib["options"],
            "tiles": " ".join(
                s.attrib["filename"] for s in layer.iter("Source") if s.attrib["filename"].startswith("tile_")
            ),
        }
        for layer in ElementTree.fromstring(f"<all>{text}</all>")
        if layer.attrib["name"].startswith(("MoEGateUp", "MoEDown"))
    }


def test_without_xmx_fma_is_chosen_and_gemv_for_decode(core: ov.Core) -> None:
    for name, found in layers(prepare(core, rewritten(core), "GPU", HALF)).items():
        kind = "gemv" if name.endswith("Decode") else "fma"
        assert (found["tiles"], found["options"]) == (f"tile_{kind}.cl", "-cl-std=CL2.0")


def test_the_variable_is_read_and_the_argument_wins(core: ov.Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OV_MOE_MICRO_KERNEL", "dpas-emulated")
    for found in layers(prepare(core, rewritten(core), "GPU")).values():
        assert (found["tiles"], found["DPAS_EMULATION"]) == ("tile_dpas.cl tile_fma.cl", "1")
    for found in layers(prepare(core, rewritten(core), "GPU", micro_kernel="fma")).values():
        assert found["tiles"] == "tile_fma.cl"
    with pytest.raises(InvalidInputError, match="micro_kernel is '', it must be"):
        prepare(core, rewritten(core), "GPU", micro_kernel="")


def test_dpas_without_xmx_is_refused(core: ov.Core) -> None:
    """Intel's compiler would build it without a word, and the kernel would hold no dpas."""
    sentence = "micro_kernel is 'dpas', and the device has no XMX of a kind that ov-moe knows: leave it to 'auto'"
    with pytest.raises(InvalidInputError, match=sentence):
        ov_moe.compile_model(core, rewritten(core), "GPU", HALF, micro_kernel="dpas")


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({}, "f16"),
        ({"INFERENCE_PRECISION_HINT": "f16"}, "f16"),
        ({"INFERENCE_PRECISION_HINT": "f32"}, "f32"),
        ({"INFERENCE_PRECISION_HINT": ov.Type.f32}, "f32"),
        ({"EXECUTION_MODE_HINT": "ACCURACY"}, "f32"),
        ({"EXECUTION_MODE_HINT": "ACCURACY", "INFERENCE_PRECISION_HINT": "f16"}, "f16"),
        ({ov.properties.hint.inference_precision: ov.Type.f32}, "f32"),
        ({ov.properties.hint.execution_mode: ov.properties.hint.ExecutionMode.ACCURACY}, "f32"),
    ],
    ids=str,
)
def test_the_hints_tell_the_type_of_activations(core: ov.Core, properties: dict[str, Any], expected: str) -> None:
    assert activations(core, parse_target(core, "GPU"), properties) == expected


def test_a_gpu_with_xmx_takes_dpas_unless_the_hint_is_f32(core: ov.Core) -> None:
    """What prepare() chooses for an Arc A770 that is not here."""
    arc = Target("GPU", "Intel Arc A770", 512, 8)
    model = rewritten(core)
    chosen = kernel_config(model, arc)
    assert (chosen.prefill.micro, chosen.decode.micro) == (Dpas.of(8), Dpas.of(8, few=True))
    assert chosen.prefill.groups == 1024
    plain = kernel_config(model, arc, real="f32")
    assert (plain.prefill.micro, plain.decode.micro) == (Fma(), Gemv())
