"""The model cache of the GPU plugin across processes: the right result or a new build, never a stale kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from cached_child import rewritten
from openvino import opset13 as ops

import ov_moe
from ov_moe.transformations.cached import PLACE, misplaced_conditions
from ov_moe.transformations.operations import moe_operations

HERE = Path(__file__).parent
WITHOUT_WEIGHTS = {"CACHE_MODE": "OPTIMIZE_SIZE"}


def child(folder: Path, **job: Any) -> dict[str, Any]:
    """What a fresh process does with the cache in ``folder``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE.parents[1]), str(HERE.parent), str(HERE)))}
    job = {"model": "", "config": {}, "groups": 5, "old": "", "new": "", **job, "folder": str(folder)}
    command = [sys.executable, str(HERE / "cached_child.py"), json.dumps(job, default=str)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, f"exit {run.returncode}: {run.stderr[-2000:]}"
    return dict(json.loads(run.stdout.splitlines()[-1]))


def blob_bytes(folder: Path) -> int:
    (blob,) = folder.glob("*.blob")
    return blob.stat().st_size


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def first(folder: Path) -> dict[str, Any]:
    """The first process: fills the cache."""
    result = child(folder)
    assert not result["loaded"]
    return result


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rewritten model as an IR."""
    path = tmp_path_factory.mktemp("saved") / "model.xml"
    ov.save_model(rewritten(), path, compress_to_fp16=False)
    return path


def test_a_second_process_loads_and_agrees_bit_for_bit(folder, first):
    second = child(folder)
    assert second["loaded"]
    assert second["builds"] == 0
    assert second["results"] == first["results"]


def test_another_schedule_is_another_model(folder, first):
    other = child(folder, groups=7)
    assert not other["loaded"]
    assert (first["groups"], other["groups"]) == (5, 7)
    assert other["results"] == first["results"]


def test_one_changed_character_in_a_kernel_is_another_model(folder, first):
    changed = child(folder, old="float8 sum = 0.0f", new="float8 sum = 1.0f")
    assert not changed["loaded"]
    assert changed["results"] != first["results"]
    assert child(folder)["results"] == first["results"]


# ---- a cache without weights ----


def weights_bytes(model: ov.Model) -> int:
    """Of the 4-bit weights and zero points, which the rewrite makes u8 constants of."""
    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    return sum(node.get_byte_size() for node in constants if node.get_element_type() == ov.Type.u8)


@pytest.mark.parametrize("config", [WITHOUT_WEIGHTS, {"ENABLE_WEIGHTLESS": "YES"}])
def test_a_cache_without_weights_is_loaded(tmp_path: Path, saved: Path, folder: Path, first, config) -> None:
    """Of a saved model, which holds none; the weights come from the .bin file."""
    runs = [child(tmp_path, model=saved, config=config) for _ in range(2)]
    assert [run["loaded"] for run in runs] == [False, True]
    assert runs[1]["builds"] == 0
    assert [run["results"] for run in runs] == [first["results"]] * 2
    assert not runs[0]["messages"] + runs[1]["messages"]
    default = tmp_path / "default"
    child(default, model=saved)
    assert blob_bytes(default) - blob_bytes(tmp_path) > weights_bytes(rewritten())


def test_what_was_rewritten_in_the_process_is_cached_and_said(tmp_path: Path, saved: Path, first) -> None:
    """No file holds the u8 constants: they stand in the cache, which is loaded all the same."""
    runs = [child(tmp_path, config=WITHOUT_WEIGHTS) for _ in range(2)]
    assert [run["loaded"] for run in runs] == [False, True]
    assert [run["results"] for run in runs] == [first["results"]] * 2
    for run in runs:
        (message,) = run["messages"]
        assert message.startswith(
            "CACHE_MODE=OPTIMIZE_SIZE: the cache will hold 0.0 MB of weights all the same, as the"
        )
        assert message.endswith("save it, as ov-moe optimize does, and compile what is read from there.")


def older_form(path: Path) -> None:
    """What ov-moe saved when the condition of its loops was a constant."""
    model = rewritten()
    for loop in [node for node in model.get_ops() if node.get_type_name() == "Loop"]:
        (condition,) = (
            result for result in loop.get_function().get_results() if result.get_element_type() == ov.Type.boolean
        )
        condition.input(0).replace_source_output(ops.constant(np.array(True)).output(0))
    ov.save_model(model, path, compress_to_fp16=False)


def test_models_that_older_versions_saved_are_served_too(tmp_path: Path, first) -> None:
    older_form(tmp_path / "model.xml")
    runs = [child(tmp_path / "cache", model=tmp_path / "model.xml", config=WITHOUT_WEIGHTS) for _ in range(2)]
    assert [run["loaded"] for run in runs] == [False, True]
    assert [run["results"] for run in runs] == [first["results"]] * 2


def test_only_the_older_form_has_a_condition_in_a_file(tmp_path: Path, saved: Path) -> None:
    """What a cache of openvino-genai, which reads the model itself, stands and falls with."""
    core = ov.Core()
    ov_moe.register(core)
    older_form(tmp_path / "model.xml")
    older, newer = core.read_model(tmp_path / "model.xml"), core.read_model(saved)
    assert [PLACE in node.get_rt_info() for node in misplaced_conditions(older)] == [True]
    assert misplaced_conditions(newer) == []
    assert len(list(moe_operations(older))) == len(list(moe_operations(newer))) == 8


def test_the_cpu_says_that_it_has_none(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    core = ov.Core()
    ov_moe.register(core)
    model = core.read_model(saved)
    ov_moe.compile_model(core, model, "CPU")
    assert caplog.messages == []
    ov_moe.compile_model(core, model, "CPU", WITHOUT_WEIGHTS)
    (message,) = caplog.messages
    assert message.startswith("CACHE_MODE=OPTIMIZE_SIZE does nothing for an optimised model on the CPU")


def test_a_mode_that_the_core_was_given_counts(caplog: pytest.LogCaptureFixture) -> None:
    core = ov.Core()
    core.set_property("GPU", WITHOUT_WEIGHTS)
    ov_moe.compile_model(core, rewritten(), "GPU")
    assert [message.split(":")[0] for message in caplog.messages] == ["CACHE_MODE=OPTIMIZE_SIZE"]
