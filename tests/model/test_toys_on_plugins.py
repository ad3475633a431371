"""The toys of tests/toys in models: matched, rewritten and run on both plugins, each in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from additions import run


@pytest.mark.parametrize("toy", ["micro_kernel", "format", "activation", "family"])
def test_a_model_with_it_gives_what_the_oracle_gives(toy: str, tmp_path: Path) -> None:
    print(run(toy, "plugin", tmp_path))
