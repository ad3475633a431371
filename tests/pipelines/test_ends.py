"""Pipelines of every kind in one process: made, used and dropped again and again, and the process ends in peace.

``--pipeline-rounds 20`` makes each more often; a round of six pipelines costs 4 to 10 s and, as the plugin keeps some
of every compiled model, about 0.2 GB.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pipeline_folders import EXACT, Folders, make

pytest.importorskip("openvino_genai", reason="openvino-genai is not installed: make pipelines")

ROOT = Path(__file__).parents[2]
KINDS = ("SDPA", "paged", "lookup", "draft", "batching")
STATUS = {"falls off": 0, "raises": 1, "exits": 3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return make("qwen3_moe", tmp_path_factory.mktemp("model"))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("end", "kinds", "rounds"),
    [("falls off", (*KINDS, "optimum"), 3), ("raises", ("paged", "batching"), 1), ("exits", ("SDPA", "batching"), 1)],
)
def test_the_process_ends_in_peace(
    folders: Folders, request: pytest.FixtureRequest, end: str, kinds: tuple[str, ...], rounds: int
) -> None:
    if "optimum" in kinds and importlib.util.find_spec("optimum") is None:
        pytest.skip("optimum-intel is not installed: make pipelines")
    rounds = max(rounds, int(request.config.getoption("--pipeline-rounds")))
    device = request.config.getoption("--pipeline-device")
    job = {"folder": str(folders.fused), "device": device, "properties": EXACT}
    job |= {"end": end, "kinds": kinds, "rounds": rounds}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("ends_child.py")), json.dumps(job)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == STATUS[end], f"exit {done.returncode}: {done.stderr[-3000:]}"
    assert "Fatal" not in done.stderr
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert [name for name, _ in lines] == list(kinds) * rounds
    assert len({tokens for _, tokens in lines}) == 1, done.stdout
