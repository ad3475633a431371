"""Programs that run in a process of their own, where the virtual GPU can start before openvino is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

START = "from ov_moe import virtual_gpu\nvirtual_gpu.start()\n"

# A kernel as the plugin writes its weight reorders: the work-group and its sub-groups lie along dimension 2.
ALONG_2 = """
#define SIZE 16
__attribute__((intel_reqd_sub_group_size(16))) __attribute__((reqd_work_group_size(1, 1, SIZE)))
kernel void along_2(global float *out) {
    uint row = get_global_id(1), column = get_global_id(2);
    float sum = sub_group_reduce_add((float)get_local_id(2));
    if (get_local_size(2) == 16 && get_num_groups(1) == 3)
        out[row * get_global_size(2) + column] = sum + row + get_sub_group_local_id() * 1000 + get_group_id(2) * 1e5f;
}
"""
OPENCL = """
import json
import numpy as np
import pyopencl as cl
platform, = cl.get_platforms()
device, = platform.get_devices(cl.device_type.GPU)
context = cl.Context([device])
queue = cl.CommandQueue(context)
def along_2(program):
    out = cl.Buffer(context, cl.mem_flags.READ_WRITE, 3 * 32 * 4)
    result = np.zeros((3, 32), np.float32)
    program.along_2(queue, (1, 3, 32), (1, 1, 16), out)
    cl.enqueue_copy(queue, result, out)
    row, column = np.mgrid[:3, :32]
    return bool((result == 120 + row + column % 16 * 1000 + column // 16 * 1e5).all())
"""
MODEL = """
import json
import numpy as np
import openvino as ov
import openvino.opset13 as op
def number(value):
    return op.constant(np.array([value], np.float32))
def model(rows, inner, columns):
    random = np.random.default_rng(0)
    x = op.parameter([rows, inner], np.float32)
    square = op.power(x, number(2.0))
    scale = op.power(op.add(op.reduce_mean(square, [1], True), number(1e-6)), number(-0.5))
    weights = op.constant(random.normal(size=(columns, inner)).astype(np.float32))
    y = op.swish(op.matmul(x * scale, weights, False, True))
    return ov.Model([op.add(op.power(y, number(3.0)), y)], [x])
core = ov.Core()
def run(device, *sizes):
    compiled = core.compile_model(model(*sizes), device, {"INFERENCE_PRECISION_HINT": "f32"})
    x = np.random.default_rng(1).normal(size=sizes[:2]).astype(np.float32)
    return compiled([x])[0]
def difference(one, other):
    return float(abs(one - other).max() / abs(other).max())
"""


def run(code: str, programs: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OV_MOE_VGPU_CACHE": str(programs), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def result(code: str, programs: Path | str, **environment: str) -> dict[str, Any]:
    """What the code printed last, as JSON."""
    done = run(code, programs, **environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))
