"""The commands of README.md and docs/, run line by line on a tiny model in the place of the reader's folder.

What only makes them last longer is overridden: their sizes.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from docs_commands import PAGES, commands
from pipeline_folders import make

SMALLER = {
    "bench": "--prompt-tokens 9 --new-tokens 2 --rounds 1 --iterations 1 --warm-up 0 --no-proof",
    "doctor": "--no-probe",
    "kernels bench": "--shape 64/32/64/8 --tokens 9 --repeats 2 --seconds 0",
    "kernels show": "",
    "trace": "",
    "optimize": "",
}
TEXTS = "A router sends each token to eight experts.\nAnother text.\n"


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page, "ov-moe ")])
def test_the_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    for package in ("transformers", "openvino_tokenizers"):
        pytest.importorskip(package, reason=f"{package} is not installed: texts need it: make pipelines")
    make("qwen3_moe", tmp_path / "made").unfused.rename(tmp_path / "MODEL_FOLDER")
    (tmp_path / "TEXTS").write_text(TEXTS, encoding="utf-8")
    (tmp_path / "prompts.txt").write_text(TEXTS, encoding="utf-8")
    for line in commands(page, "ov-moe "):
        words = shlex.split(re.sub(r"\[MODEL\]", "MODEL_FOLDER", line))[1:]
        smaller = next(options for start, options in SMALLER.items() if " ".join(words).startswith(start))
        done = subprocess.run(
            [sys.executable, "-m", "ov_moe.cli", *words, *shlex.split(smaller)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        files = [word for word in words if re.search(r"\.(csv|json|png|cl)$", word) and "@" not in word]
        assert [file for file in files if not (tmp_path / file).is_file()] == [], line
