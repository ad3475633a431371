"""Route, both GEMMs under every schedule and combine under oclgrind, which sees any two accesses that nothing orders.

oclgrind (Debian's package of that name) interprets OpenCL 1.2: no sub-groups and no f16, so fma and f32 buffers.
Tickets are atomic. Writes of equal values to one place count as races too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parents[1]
SCHEDULES = ("grid", "ticket", "stride")
BARRIER = "barrier(CLK_LOCAL_MEM_FENCE);"
# Where a race is planted: the kernel's name, what stands there, and what takes its place.
PLANTED = {
    "route, masks read before all are set": (
        "route",
        f"{BARRIER}\n                    const uint lanes",
        "const uint lanes",
    ),
    "the pool, an expert read before it is found": (
        "down",
        f"shared[1] = e;\n    {BARRIER}",
        "shared[1] = e;",
    ),
    "a tile overwritten while it is multiplied": ("gate_up", BARRIER, ""),
    "combine, each sum by two work-items": ("combine", "item = get_global_id(0);", "item = get_global_id(0) / 2;"),
}


def reports(tmp_path: Path, schedule: str, plant: str = "") -> str:
    """What oclgrind says of the four kernels of one small block."""
    if shutil.which("oclgrind") is None:
        pytest.skip("oclgrind is not installed (Debian, Ubuntu: apt install oclgrind)")
    log = tmp_path / "log"
    command = ["oclgrind", "--data-races", "--uniform-writes", "--log", str(log)]
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    # Its own runtime, not the one that this process has started.
    environment = {name: value for name, value in os.environ.items() if name != "OCL_ICD_VENDORS"}
    environment |= {"PYTHONPATH": paths}
    result = subprocess.run(
        [*command, sys.executable, __file__, schedule, plant],
        env=environment,
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, (result.stdout[-500:], result.stderr[-2000:])
    assert result.stdout.splitlines()[-1] == f"Oclgrind Simulator ran {schedule}"
    return log.read_text()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_two_work_items_race(schedule: str, tmp_path: Path) -> None:
    assert reports(tmp_path, schedule) == ""


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_race_is_found(plant: str, tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    found = reports(tmp_path, "ticket", plant)
    assert "data race" in found, found
    assert f"ov_moe_{PLANTED[plant][0]}" in found


def main(schedule: str, plant: str) -> None:
    """Runs under oclgrind: three groups of route, tiles of 16 rows, two and a half windows of experts."""
    import bounds
    from blocks import random_block
    from kernel_cases import config, hot

    from ov_moe.devices.opencl import OpenCLDevice
    from ov_moe.kernels.geometry import WorkSize

    class Simulated(OpenCLDevice):
        standard = "CL1.2"  # its driver says it had others

        def launch(self, text, entry, size, inputs, output, options=(), plan=None):
            if plant and entry == f"ov_moe_{PLANTED[plant][0]}":
                _, found, instead = PLANTED[plant]
                assert found in text, f"{plant}: the kernel has changed, plant another race"
                text = text.replace(found, instead)
            if entry == "ov_moe_route":
                text = f"#define ROUTE_WINDOW 4\n{text}"
            super().launch(text, entry, size, inputs, output, options, plan)

    device, rng = Simulated(), np.random.default_rng()
    block = random_block(
        rng,
        tokens=40,
        experts=9,
        top_k=2,
        hidden=18,
        intermediate=34,
        precision="u4",
        zero=True,
        scale_dtype=np.float32,
        ids=hot(rng, 40, 9, 2),
        max_tokens=43,
    )
    setting = config(schedule, 3, tile_m=16, tile_n=32, tile_k=16, local_size=64, route_size=64)
    found = block.run_all(device, setting, {"MoERoute": WorkSize((3, 1, 1), 64)})
    if not plant:
        bounds.error(block, found.y).check()
    print(f"{device.name} ran {schedule}")


if __name__ == "__main__":
    main(*sys.argv[1:])
