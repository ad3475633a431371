"""The Python in README.md and docs/, run as it stands on the virtual GPU, with a tiny model under the name it uses.

That of docs/optimum.md and docs/genai.md runs in tests/pipelines.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ov_moe.demo import MODEL

ROOT = Path(__file__).parents[2]
FILES = [*ROOT.glob("docs/*.md"), ROOT / "README.md"]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in FILES}
IN_PIPELINES = {"docs/optimum.md", "docs/genai.md"}


def python_of(page: str) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE))


# What a page takes for granted, and what must then hold.
VARIABLES = {"docs/configuration.md": {"OV_MOE_BALANCE": "on", "OV_MOE_GROUPS": "384"}}
BEFORE = {
    "docs/quick_starts.md": f"{python_of('README.md')}\n",
    "docs/trace.md": f"import numpy as np\n{python_of('README.md')}\nids = np.arange(20)[None] % 97\n",
}
AFTER = {
    "README.md": "assert len(compiled.outputs) == 1\n",
    "docs/trace.md": (
        "counts = session.counts(len(taps.layers), taps.experts)\n"
        "assert counts.shape == (2, 64) and (counts.sum(1) == 20 * 8).all(), counts\n"
    ),
    "docs/quick_starts.md": "assert ran == 4\n",
    "docs/configuration.md": "found = Config.from_environment()\nassert (found.balance, found.groups) == ('on', 384)\n",
}


def test_every_page_with_python_is_run_somewhere() -> None:
    assert {page for page in PAGES if python_of(page)} == set(AFTER) | IN_PIPELINES


@pytest.mark.parametrize("page", AFTER)
def test_the_code_of_a_page_runs(page: str, tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "qwen3-30b-a3b-int4")
    code = "".join(["from ov_moe import virtual_gpu\nvirtual_gpu.start()\n", BEFORE.get(page, ""), python_of(page)])
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{AFTER[page]}"],
        cwd=tmp_path,
        env={**os.environ, **VARIABLES.get(page, {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if page == "README.md":
        assert "2 MoE blocks rewritten, 0 left alone" in done.stdout
