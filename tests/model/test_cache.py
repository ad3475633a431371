"""The model cache of the GPU plugin across processes: the right result or a new build, never a stale kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def child(folder: Path, groups: int = 5, old: str = "", new: str = "") -> dict[str, Any]:
    """What a fresh process does with the cache in ``folder``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE.parent), str(HERE)))}
    command = [sys.executable, str(HERE / "cached_child.py"), str(folder), str(groups), old, new]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, f"exit {run.returncode}: {run.stderr[-2000:]}"
    return dict(json.loads(run.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def first(folder: Path) -> dict[str, Any]:
    """The first process: fills the cache."""
    result = child(folder)
    assert not result["loaded"]
    return result


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
