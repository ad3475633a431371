"""What CI relies on: with ``--pipelines``, a test of the pipelines that skips is a failure, whatever skips it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# As in an environment without the packages.
RUN = """
import sys
sys.modules.update(dict.fromkeys(["openvino_genai", "optimum", "optimum.intel", "transformers"]))
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *sys.argv[1:]]))
"""


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("tests/pipelines/test_genai.py", "openvino-genai is not installed: make pipelines"),
        ("tests/pipelines/test_optimum.py", "optimum-intel is not installed: make pipelines"),
        ("tests/pipelines/test_pipeline_docs.py", "the quick start of docs/optimum.md needs it: make pipelines"),
    ],
)
def test_a_skip_says_why_and_fails_on_request(test: str, reason: str) -> None:
    status, said = run(test)
    assert status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert "SKIPPED" in said
    assert reason in said
    status, said = run(test, "--pipelines")
    assert status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert reason in said
    assert "no test of the pipelines may skip" in said
    assert "skipped" not in said.splitlines()[-1]


def test_ci_asks_for_it() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-2:] == ["make pipelines </dev/null", "exec make test TESTFLAGS=--pipelines </dev/null"]
