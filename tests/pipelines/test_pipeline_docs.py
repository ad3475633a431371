"""The quick starts of docs/optimum.md and docs/genai.md, run as they stand, on a tiny model under the name they use."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from pipeline_folders import make, run_python

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("page", "packages"), [("optimum", ("optimum.intel",)), ("genai", ("openvino_genai",))])
def test_the_quick_start_runs(page, packages, tmp_path):
    for package in (*packages, "transformers", "openvino_tokenizers"):
        pytest.importorskip(
            package, reason=f"{package} is not installed: the quick start of docs/{page}.md needs it: make pipelines"
        )
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", (DOCS / f"{page}.md").read_text("utf-8"), re.DOTALL | re.M))
    assert code.count("ov_moe.") >= 3
    folders = make("qwen3_moe", tmp_path / "made")
    shutil.move(folders.unfused, tmp_path / "qwen3-30b-a3b-int4")
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 MoE blocks rewritten, 0 left alone" in done.stdout
