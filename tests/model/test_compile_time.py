"""scripts/compile_time.py: what it prints of a small model is what the design says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "compile_time.py"


def test_builds_and_padding_are_those_of_the_design() -> None:
    sizes = ("--layers", "3", "--hidden", "64", "--top-k", "2", "--few-tokens", "16", "--max-tokens", "32")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *sizes, "--cached"], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert re.search(r"ov-moe's kernels\D+24\b", done.stdout)  # eight a block
    assert "0 programs of ov-moe built, 0 calls of Python" in done.stdout
    # x, ids and weights of 16 rows in each of three blocks.
    bytes_copied = 3 * 16 * 4 * (64 + 2 + 2)
    assert f"Padding copies {bytes_copied / 1e6:.3f} MB in a decode step." in done.stdout
