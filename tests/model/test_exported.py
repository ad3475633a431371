"""Every exported model: all its MoE blocks rewritten, the same logits on the CPU plugin and on the virtual GPU.

On the GPU plugin only a few models run by default, because building the plugin's own int4 kernels is slow on a
CPU; ``pytest tests/model/test_exported.py --all-models`` runs them all.
"""

from __future__ import annotations

import openvino as ov
import pytest
from exported import BLOCKS, EXACT, MODELS, difference, logits, read, vocabulary_of

import ov_moe

ON_GPU_BY_DEFAULT = {
    "qwen3moe-e8-fp16": "three GEMMs, prompts longer than an island",
    "qwen3moe-e64-int4": "many experts: the pool",
    "gptoss-e4-fp16": "one GEMM for gate and up, biases, clamps",
    "granitemoe-e8-fp16": "experts one by one, behind a sort",
}

pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="the folder of exported models is not beside this checkout")


@pytest.fixture(scope="module")
def core() -> ov.Core:
    return ov.Core()


def test_every_export_is_in_the_table() -> None:
    assert {path.parent.name for path in MODELS.glob("*/openvino_model.xml")} == set(BLOCKS)


def _check(core: ov.Core, name: str, device: str, limit: float, max_tokens: int = 64) -> None:
    reference = core.compile_model(read(core, name), "CPU", EXACT)
    model = read(core, name)
    vocabulary = vocabulary_of(model)
    report = ov_moe.optimize(model, max_tokens=max_tokens)
    assert len(report.rewritten) == BLOCKS[name], str(report)
    assert not report.skipped, str(report)
    compiled = ov_moe.compile_model(core, model, device, EXACT)
    found = difference(logits(compiled, vocabulary), logits(reference, vocabulary))
    print(f"{name} on {device}: max |logit error| = {found.error:.2e} x max |logit|")
    assert found.error <= limit
    assert found.same_tokens


@pytest.mark.parametrize("name", BLOCKS)
def test_on_the_cpu_plugin(core: ov.Core, name: str) -> None:
    # 16: prompts of 20 tokens and batches of 2 x 9 are longer than an island.
    _check(core, name, "CPU", 1e-3, max_tokens=16)


@pytest.mark.parametrize("name", BLOCKS)
def test_on_the_gpu_plugin(core: ov.Core, name: str, all_models: bool) -> None:
    if name not in ON_GPU_BY_DEFAULT and not all_models:
        pytest.skip("runs with --all-models: the plugin's own int4 kernels build slowly on the virtual GPU")
    _check(core, name, "GPU", 1e-3, max_tokens=16 if name.endswith("fp16") else 64)


def test_half_precision_is_no_worse_than_unfused(core: ov.Core) -> None:
    """With the f16 hint the unfused model on the same plugin sets the budget.

    Its logits are off by the roundings of attention, norms and experts; our blocks round x, h, d and y to f16
    and compute in fp32 between, while the plugin's own experts round more often: ours may not be further off
    than 1.5 times the unfused model (the largest of some thousand roundings scatters by less).
    """
    name = "qwen3moe-e8-fp16"
    half = {"INFERENCE_PRECISION_HINT": "f16"}
    expected = logits(core.compile_model(read(core, name), "CPU", EXACT), 512)
    unfused = difference(logits(core.compile_model(read(core, name), "GPU", half), 512), expected)
    model = read(core, name)
    ov_moe.optimize(model, max_tokens=64)
    fused = difference(logits(ov_moe.compile_model(core, model, "GPU", half), 512), expected)
    print(f"f16: max |logit error| / max |logit| = {fused.error:.2e} fused, {unfused.error:.2e} unfused")
    assert 1e-5 < fused.error <= 1.5 * unfused.error
