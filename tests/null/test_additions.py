"""What somebody touches who adds a micro-kernel, a format, an activation or a family: a toy of each, counted.

tests/device/test_toys_on_kernels.py and tests/model/test_toys_on_plugins.py run what needs devices.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from additions import add, copied, new_files, run, touched

# All that is new or changed.
FILES = {
    "micro_kernel": {"ov_moe/kernels/micro/naive.py", "cl/tile_naive.cl", "ov_moe/kernels/micro/__init__.py"},
    # The oracle decodes by itself.
    "format": {"ov_moe/kernels/formats.py", "cl/weights.cl", "ov_moe/reference.py"},
    "activation": {"ov_moe/kernels/activations.py", "cl/activation.cl", "ov_moe/reference.py"},
    "family": {"transformations/tiled/one_hot.py", "transformations/families.py"},
}
NEW = {"micro_kernel": 2, "format": 0, "activation": 0, "family": 1}


@pytest.mark.parametrize("toy", FILES)
def test_it_touches_at_most_three_files(toy: str, tmp_path: Path) -> None:
    tree = copied(tmp_path)
    assert (tree / "ov_moe" / "cl").is_symlink()
    assert touched(tree) == []
    add(toy, tree)
    assert set(touched(tree)) == FILES[toy]
    assert len(FILES[toy]) <= 3
    assert len(new_files(toy)) == NEW[toy]


@pytest.mark.parametrize(("toy", "function"), [("micro_kernel", "words"), ("format", "numbers")])
def test_what_follows_from_the_table(toy: str, function: str, tmp_path: Path) -> None:
    run(toy, function, tmp_path)
