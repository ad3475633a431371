"""Every test process starts the virtual GPU first: openvino must not be imported before it."""

from __future__ import annotations

import numpy as np
import pytest

from ov_moe import virtual_gpu

virtual_gpu.start()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Fresh random numbers in every run; the seed is printed when a test fails."""
    seed = int(np.random.SeedSequence().entropy or 0) % 2**32
    request.node.add_report_section("setup", "seed", f"np.random.default_rng({seed})")
    return np.random.default_rng(seed)
