"""Child of test_cache: compiles a model of one block with a model cache, prints what happened as JSON.

Argument: a job in JSON. ``folder`` of the cache; ``model``, an IR that is optimised, or else one that is made and
rewritten here; ``config`` for the plugin; ``groups`` of the pool; ``old``, a text to replace in the kernels by ``new``.
"""

from __future__ import annotations

import json
import logging
import sys

from ov_moe import virtual_gpu

virtual_gpu.start()

import numpy as np  # noqa: E402
import openvino as ov  # noqa: E402
from blocks_on_plugin import F32, SMALL  # noqa: E402

import ov_moe  # noqa: E402
from ov_moe.kernels import compose, layer_xml  # noqa: E402
from ov_moe.testing.graphs import moe_block_model  # noqa: E402


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def rewritten() -> ov.Model:
    """The same model in every process."""
    model, _ = moe_block_model(rng=np.random.default_rng(1), topk_as_inputs=True, **SMALL)
    assert ov_moe.optimize(model, "on", max_tokens=16, few_tokens=4).rewritten
    return model


def main(folder: str, model: str, config: dict[str, str], groups: int, old: str, new: str) -> None:
    if old:
        original = compose.read_source
        if old not in original("combine.cl"):
            sys.exit(f"combine.cl does not contain {old!r}")

        def changed(name: str) -> str:
            return original(name).replace(old, new)

        compose.read_source = changed  # type: ignore[assignment]
        layer_xml.read_source = changed  # type: ignore[assignment]
    messages = _Messages()
    logging.getLogger("ov_moe").addHandler(messages)
    core = ov.Core()
    ov_moe.register(core)
    network = core.read_model(model) if model else rewritten()
    compiled = ov_moe.compile_model(core, network, "GPU", {**F32, "CACHE_DIR": folder, **config}, groups=groups)
    virtual_gpu.reset()
    rng = np.random.default_rng(2)
    results = []
    for tokens in (3, 4, 16, 37, 1):
        inputs = {
            "x": rng.standard_normal((tokens, SMALL["hidden"])).astype(np.float32),
            "ids": np.argsort(rng.random((tokens, SMALL["experts"])))[:, : SMALL["top_k"]].astype(np.int32),
            "weights": rng.random((tokens, SMALL["top_k"])).astype(np.float32),
        }
        results.append(compiled(inputs)[0].tobytes().hex())
    counters = virtual_gpu.snapshot()
    print(
        json.dumps(
            {
                "loaded": bool(compiled.get_property("LOADED_FROM_CACHE")),
                "builds": len(counters.builds_of("ov_moe_")),
                "groups": counters.launches_of("ov_moe_")["ov_moe_down"].last_groups,
                "results": results,
                "messages": messages.texts,
            }
        )
    )


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
