"""The toys of tests/toys where kernels run: a process of its own each, on a copy of the tree with the toy added."""

from __future__ import annotations

from pathlib import Path

import pytest
from additions import run


@pytest.mark.parametrize("toy", ["micro_kernel", "format"])
@pytest.mark.parametrize("function", ["kernels", "bench"])
def test_it_gives_what_the_oracle_gives(toy: str, function: str, tmp_path: Path) -> None:
    run(toy, function, tmp_path)
