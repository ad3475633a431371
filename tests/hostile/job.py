"""One job of the fork server: a model from a file to its results, and what became of it."""

from __future__ import annotations

import ctypes
import io
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from rich.console import Console

import ov_moe
import ov_moe.compiler
import ov_moe.folder.read
import ov_moe.optimizer
from ov_moe.folder.run import optimize_folder
from ov_moe.ops.evaluate import EVALUATE_VARIABLE

# The CPU plugin rounds activations in front of compressed weights unless told otherwise.
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "KV_CACHE_PRECISION": "f32"}
ROOM, FEW = 8, 4


def run(work: dict[str, Any]) -> dict[str, Any]:
    """What became of a model.

    Args:
        work: ``read``: the IR; ``way``: ``plain``, ``optimize``, ``compile`` or ``survey``; ``device``;
            ``evaluate``; ``inputs``: an npz of arrays for each run, "<run>/<input>"; ``results``: the npz to write.

    Returns:
        ``how``: ``results``, ``sentence`` (an error of ov-moe), ``openvino`` (one of OpenVINO where it may raise),
        ``alone`` (there is no block) or ``wrong`` (any other exception), with ``stage`` and ``message``.
    """
    logging.getLogger("ov_moe").setLevel(logging.ERROR)
    os.environ[EVALUATE_VARIABLE] = work["evaluate"]
    stage = ["read"]
    try:
        return _run(work, stage)
    except ov_moe.OvMoeError as error:
        found = {"how": "sentence", "message": str(error)}
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        # Plugins wrap what an operation raises while they run.
        expected = isinstance(error, RuntimeError) and stage[0] == "infer"
        found = {"how": "openvino" if expected or work["way"] == "plain" else "wrong", "message": message}
    return {**found, "stage": stage[0]}


def _run(work: dict[str, Any], stage: list[str]) -> dict[str, Any]:
    if work["way"] == "planted":
        _planted(work["planted"])
        return {"how": "results", "stage": stage[0], "message": ""}
    path, device = Path(work["read"]), work["device"]
    if work["way"] == "survey":
        report = optimize_folder(path, path.parent / "out", dry_run=True)
        report.print(Console(file=io.StringIO(), width=100))
        return {"how": "results", "stage": "survey", "message": report.to_json()[:0]}
    core = ov.Core()
    if work["way"] == "plain":
        model = core.read_model(path)
    else:
        ov_moe.register(core)
        model = ov_moe.folder.read.read(core, path)
    stage[0] = "optimize"
    if work["way"] == "optimize" and not ov_moe.optimize(model, max_tokens=ROOM, few_tokens=FEW).rewritten:
        return {"how": "alone", "stage": stage[0], "message": ""}
    stage[0] = "compile"
    if work["way"] == "plain":
        compiled = core.compile_model(model, device, EXACT)
    else:
        compiled = ov_moe.compile_model(core, model, device, EXACT)
    stage[0] = "infer"
    results = _infer(compiled, work["inputs"])
    np.savez(work["results"], **results)
    return {"how": "results", "stage": stage[0], "message": ""}


def _planted(what: str) -> None:
    """A fault, to see that it is seen."""
    if what == "signal":
        ctypes.string_at(0)
    elif what == "memory":
        np.ones(2**40, np.uint8)
    elif what == "time":
        time.sleep(600)
    elif what == "exception":
        raise KeyError(what)


def _infer(compiled: ov.CompiledModel, inputs: str) -> dict[str, np.ndarray]:
    results = {}
    with np.load(inputs) as given:
        runs = sorted({name.split("/")[0] for name in given.files})
        for run in runs:
            arrays = {int(name.split("/")[1]): given[name] for name in given.files if name.split("/")[0] == run}
            known = {index: array for index, array in arrays.items() if index < len(compiled.inputs)}
            results[run] = compiled(known)[0].copy()
    return results
