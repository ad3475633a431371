"""Models of MoE blocks alone, rewritten and compiled for a plugin, beside the unfused model as reference."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov

import ov_moe
from ov_moe import virtual_gpu
from ov_moe.testing.graphs import moe_block_model

F32 = {"INFERENCE_PRECISION_HINT": "f32"}
# Through the GPU plugin in fp32 only the order of sums differs from the CPU plugin's.
LIMIT = 1e-5
SMALL = {"experts": 8, "top_k": 2, "hidden": 64, "intermediate": 32}


def request_of_its_own(compiled: ov.CompiledModel) -> ov.InferRequest:
    """A request to whose results no other request of the model writes, as docs/configuration.md says how."""
    request = compiled.create_infer_request()
    for port in compiled.outputs:
        request.set_tensor(port, ov.Tensor(port.element_type, port.partial_shape.get_min_shape()))
    return request


def until_nothing_is_built(work: Callable[[], object]) -> None:
    """Repeat inferences until the plugin builds no kernel of its own in the background any more.

    A build counts once it is done: two quiet seconds are several times what one takes on a loaded machine.
    """
    for _ in range(100):
        before = len(virtual_gpu.snapshot().builds)
        work()
        time.sleep(2)
        if len(virtual_gpu.snapshot().builds) == before:
            return
    raise AssertionError("the plugin builds on and on")


@dataclass
class Pair:
    """A rewritten model on a plugin and the unfused one on the CPU plugin."""

    fused: ov.CompiledModel
    unfused: ov.CompiledModel
    hidden: int

    def random_input(self, rng: np.random.Generator, tokens: int, batch: int = 1) -> np.ndarray:
        return rng.standard_normal((batch, tokens, self.hidden)).astype(np.float32)

    def check(self, x: np.ndarray) -> np.ndarray:
        """Both on x: the same within LIMIT; returns the fused result."""
        result, expected = self.fused(x)[0], self.unfused(x)[0]
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(result, expected, rtol=0, atol=LIMIT * np.abs(expected).max())
        return result


def pair(
    core: ov.Core,
    rng: np.random.Generator,
    device: str = "GPU",
    *,
    balance: str = "auto",
    max_tokens: int = 32,
    few_tokens: int | None = None,
    compile_options: dict[str, Any] | None = None,
    properties: dict[str, Any] | None = None,
    **model_options: Any,
) -> Pair:
    """A random model of blocks, in both forms."""
    options = {**SMALL, **model_options}
    model, _ = moe_block_model(rng=rng, **options)
    unfused = core.compile_model(model.clone(), "CPU", F32)
    report = ov_moe.optimize(model, balance, max_tokens=max_tokens, few_tokens=few_tokens)  # type: ignore[arg-type]
    assert len(report.rewritten) == options.get("blocks", 1), str(report)
    fused = ov_moe.compile_model(core, model, device, {**F32, **(properties or {})}, **(compile_options or {}))
    return Pair(fused, unfused, options["hidden"])


def our_builds() -> int:
    """Programs of ours that were built (or loaded from the binary cache) since the last reset."""
    return len(virtual_gpu.snapshot().builds_of("ov_moe_"))


def our_launches() -> dict[str, virtual_gpu.Launch]:
    """Launches of our kernels since the last reset."""
    return virtual_gpu.snapshot().launches_of("ov_moe_")
