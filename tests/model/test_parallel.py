"""Several models and requests at once give the bits that each gives alone: no ticket or buffer is shared."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openvino as ov
import pytest
from blocks_on_plugin import F32, SMALL, request_of_its_own

import ov_moe
from ov_moe.testing.graphs import moe_block_model

ROUNDS = 15
# Decode, a full chunk, more than a chunk, decode.
TOKENS = (3, 16, 29, 1)


def compiled(core: ov.Core, seed: int, balance: str, **config: str) -> ov.CompiledModel:
    model, _ = moe_block_model(rng=np.random.default_rng(seed), blocks=2, topk_as_inputs=True, **SMALL)
    ov_moe.optimize(model, balance, max_tokens=16, few_tokens=4)  # type: ignore[arg-type]
    return ov_moe.compile_model(core, model, "GPU", {**F32, **config})


def random_inputs(tokens: int, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    return {
        "x": rng.standard_normal((tokens, SMALL["hidden"])).astype(np.float32),
        "ids": rng.integers(0, SMALL["experts"], (tokens, SMALL["top_k"])).astype(np.int32),
        "weights": rng.random((tokens, SMALL["top_k"])).astype(np.float32),
    }


@pytest.mark.parametrize(
    "config",
    [
        {"PERFORMANCE_HINT": "THROUGHPUT"},
        {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": "2"},
        {"PERFORMANCE_HINT": "LATENCY"},
    ],
    ids=lambda config: "-".join(config.values()),
)
def test_two_models_and_four_requests_each(config: dict[str, str], rng: np.random.Generator) -> None:
    core = ov.Core()
    inputs = [random_inputs(tokens, rng) for tokens in TOKENS]
    kinds = ((5, "on"), (6, "off"))
    alone = [compiled(core, *kind) for kind in kinds]
    expected = [[model(values)[0].copy() for values in inputs] for model in alone]
    assert all(np.isfinite(result).all() for results in expected for result in results)
    together = [compiled(core, *kind, **config) for kind in kinds]
    start = threading.Barrier(len(kinds) * len(inputs))

    def work(model: int, index: int) -> list[int]:
        """The inputs for which a request of this model gave other bits."""
        request = request_of_its_own(together[model])
        start.wait()
        order = [(index + turn) % len(inputs) for turn in range(ROUNDS)]  # another length at every inference
        return [each for each in order if not np.array_equal(request.infer(inputs[each])[0], expected[model][each])]

    with ThreadPoolExecutor(len(kinds) * len(inputs)) as pool:
        running = [pool.submit(work, model, index) for model in range(len(kinds)) for index in range(len(inputs))]
        assert [each.result() for each in running] == [[]] * len(running)
