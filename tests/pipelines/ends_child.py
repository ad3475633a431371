"""Child of test_ends: makes, uses and drops pipelines of every kind in one process, then ends as it is told.

Argument: a job in JSON. ``folder`` of an optimised model, ``device``, ``rounds``, ``kinds``, ``properties``, and
``end``: ``falls off`` the end of the program with all pipelines of the last round alive, ``raises`` or ``exits`` then.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from typing import Any

from ov_moe import virtual_gpu

faulthandler.enable()
virtual_gpu.start()

import numpy as np  # noqa: E402
import openvino as ov  # noqa: E402
import openvino_genai as genai  # noqa: E402

import ov_moe  # noqa: E402
import ov_moe.genai  # noqa: E402
from ov_moe.compiler import prepare  # noqa: E402
from ov_moe.ops.registry import OPERATIONS  # noqa: E402

PROMPT = np.random.default_rng(1).integers(3, 250, (1, 21))
NEW_TOKENS = 4


def scheduler() -> genai.SchedulerConfig:
    """A key-value cache of 64 blocks: by default each pipeline takes what the device has."""
    config = genai.SchedulerConfig()
    config.num_kv_blocks, config.cache_size = 64, 0
    return config


def make(kind: str, folder: str, device: str, properties: dict[str, Any]) -> Any:
    if kind == "optimum":
        from ov_moe.optimum import load

        return load(folder, device, ov_config=properties)
    if kind == "SDPA":
        return ov_moe.genai.pipeline(folder, device, ATTENTION_BACKEND="SDPA", **properties)
    if kind == "paged":
        return ov_moe.genai.pipeline(folder, device, scheduler_config=scheduler(), **properties)
    if kind == "lookup":
        return ov_moe.genai.pipeline(folder, device, prompt_lookup=True, scheduler_config=scheduler(), **properties)
    core = ov.Core()
    ov_moe.register(core)
    prepared = prepare(core, core.read_model(f"{folder}/openvino_model.xml"), device, properties)
    if kind == "draft":
        draft = genai.draft_model(folder, device, **prepared)
        return ov_moe.genai.pipeline(folder, device, draft_model=draft, scheduler_config=scheduler(), **properties)
    assert kind == "batching"
    return genai.ContinuousBatchingPipeline(folder, scheduler(), device, {**prepared, "extensions": list(OPERATIONS)})


def use(kind: str, pipe: Any) -> list[int]:
    """The new tokens."""
    if kind == "optimum":
        import torch

        found = pipe.generate(
            torch.tensor(PROMPT), do_sample=False, min_new_tokens=NEW_TOKENS, max_new_tokens=NEW_TOKENS
        )
        return list(found[0, PROMPT.shape[1] :].tolist())
    config = genai.GenerationConfig(max_new_tokens=NEW_TOKENS, ignore_eos=True)
    if kind == "lookup":
        config.num_assistant_tokens, config.max_ngram_size = 3, 2
    if kind == "draft":
        config.num_assistant_tokens = 3
    if kind == "batching":
        return list(pipe.generate([ov.Tensor(PROMPT)], [config])[0].m_generation_ids[0])
    return list(pipe.generate(ov.Tensor(PROMPT), config).tokens[0])


job = json.loads(sys.argv[1])
alive: dict[str, Any] = {}
for _ in range(job["rounds"]):
    for name in job["kinds"]:
        alive.pop(name, None)
        alive[name] = make(name, job["folder"], job["device"], job["properties"])
        print(name, *use(name, alive[name]), flush=True)
if job["end"] == "raises":
    raise ValueError("as planned")
if job["end"] == "exits":
    sys.exit(3)
