"""Every exported Qwen3-MoE model: two blocks rewritten, the same logits on the CPU plugin and on the virtual GPU.

On the GPU plugin only two models run by default, because building the plugin's own int4 kernels is slow on a
CPU; ``pytest tests/model/test_exported.py --all-models`` runs them all.
"""

from __future__ import annotations

import openvino as ov
import pytest
from exported import EXACT, MODELS, difference, logits, read, vocabulary_of

import ov_moe

QWEN3 = (
    "qwen3moe-e8-fp16",
    "qwen3moe-e64-int4",
    "qwen3moe-e8-fp32",
    "qwen3moe-e8-int4",
    "qwen3moe-e8-int4cw",
    "qwen3moe-e8-int4g64",
    "qwen3moe-e8-int4r06",
    "qwen3moe-e8-int4sym",
    "qwen3moe-e8-int8",
    "qwen3moe-e8-int8sym",
    "qwen3moe-e8-nonorm-int4",
)
ON_GPU_BY_DEFAULT = QWEN3[:2]

pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="the folder of exported models is not beside this checkout")


@pytest.fixture(scope="module")
def core() -> ov.Core:
    return ov.Core()


def _check(core: ov.Core, name: str, device: str, limit: float, max_tokens: int = 64) -> None:
    reference = core.compile_model(read(core, name), "CPU", EXACT)
    model = read(core, name)
    vocabulary = vocabulary_of(model)
    report = ov_moe.optimize(model, max_tokens=max_tokens)
    assert len(report.rewritten) == 2, str(report)
    assert not report.skipped, str(report)
    compiled = ov_moe.compile_model(core, model, device, EXACT)
    found = difference(logits(compiled, vocabulary), logits(reference, vocabulary))
    print(f"{name} on {device}: max |logit error| = {found.error:.2e} x max |logit|")
    assert found.error <= limit
    assert found.same_tokens


@pytest.mark.parametrize("name", QWEN3)
def test_on_the_cpu_plugin(core: ov.Core, name: str) -> None:
    # 16: prompts of 20 tokens and batches of 2 x 9 are longer than an island.
    _check(core, name, "CPU", 1e-3, max_tokens=16)


@pytest.mark.parametrize("name", QWEN3)
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
