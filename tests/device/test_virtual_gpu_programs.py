"""Programs as the virtual GPU builds, changes and keeps them; each case is a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from virtual_gpu_child import ALONG_2, OPENCL, START, result

pytest.importorskip("openvino")
pytestmark = pytest.mark.usefixtures("virtual_gpu_runtime")


def test_sub_groups_along_dimension_2_also_from_binaries(tmp_path: Path) -> None:
    code = f"""
SOURCE = {ALONG_2!r}
built = cl.Program(context, SOURCE).build()
binary = built.get_info(cl.program_info.BINARIES)
again = cl.Program(context, [device], binary).build()
counters = virtual_gpu.snapshot()
print(json.dumps({{
    "source": along_2(built), "binary": along_2(again),
    "builds": [build.cached for build in counters.builds_of("along_2")],
    "groups": virtual_gpu.snapshot().launches["along_2"].groups,
}}))
"""
    environment = {"PYOPENCL_NO_CACHE": "1"}
    for cached in (False, True):
        found = result(START + OPENCL + code, tmp_path, **environment)
        assert found["source"]
        assert found["binary"]
        assert found["builds"] == [cached, False]
        assert found["groups"] == 2 * 6


def test_programs_of_one_binary_share_its_machine_code(tmp_path: Path) -> None:
    """A process that compiles a model again and again: each program works, also after others have gone."""
    code = f"""
import gc
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
# Unrolled to some hundred kB of machine code.
LARGE = {ALONG_2!r} + "kernel void large(global float *x) {{" + "".join(
    f"x[{{i}}] = sin(x[{{i + 1}}]) * {{i}}.5f;" for i in range(2000)) + "}}"
right, sizes = [], []
for _ in range(12):
    program = cl.Program(context, LARGE).build()
    right.append(along_2(program))
    del program
    gc.collect()
    sizes.append(resident())
counters = virtual_gpu.snapshot()
print(json.dumps({{
    "right": right, "builds": [build.cached for build in counters.builds_of("along_2")],
    "first": sizes[1] - sizes[0], "later": sizes[-1] - sizes[1],
}}))
"""
    found = result(START + OPENCL + code, tmp_path, PYOPENCL_NO_CACHE="1")
    assert found["right"] == [True] * 12
    assert found["builds"] == [False] + [True] * 11
    # The second program loads the binary; ten more take less than another one of it.
    assert found["later"] < max(found["first"], 1e6)


def test_only_the_kernels_that_need_it_change_dimensions(programs: Path) -> None:
    code = f"""
SOURCE = "\\n// Kernel name: along_2\\n#define KERNEL(name) kernel void along_2\\n" + {ALONG_2!r}.replace(
    "kernel void along_2", "KERNEL(x)"
) + '''
#undef KERNEL

//====
// Kernel name: along_0
#define KERNEL(name) kernel void along_0
__attribute__((intel_reqd_sub_group_size(16))) __attribute__((reqd_work_group_size(16, 1, 1)))
KERNEL(x)(global float *out) {{
    out[get_global_id(0)] = sub_group_reduce_add((float)get_local_id(0)) + get_global_id(2);
}}
'''
program = cl.Program(context, SOURCE).build()
out = cl.Buffer(context, cl.mem_flags.READ_WRITE, 64 * 4)
host = np.zeros(64, np.float32)
program.along_0(queue, (64,), (16,), out)
cl.enqueue_copy(queue, host, out)
print(json.dumps({{"along_2": along_2(program), "along_0": host.tolist()}}))
"""
    found = result(START + OPENCL + code, programs, PYOPENCL_NO_CACHE="1")
    assert found["along_2"]
    assert found["along_0"] == [120.0] * 64


def test_native_functions_are_as_exact_as_on_intel_gpus(programs: Path) -> None:
    code = """
SOURCE = '''kernel void native(global const float *x, global float *out) {
    size_t i = get_global_id(0);
    out[4 * i] = native_exp(x[i]);
    out[4 * i + 1] = native_recip(x[i]);
    out[4 * i + 2] = native_rsqrt(fabs(x[i]));
    out[4 * i + 3] = native_powr(x[i], 2.0f);
}'''
x = np.concatenate([np.linspace(-20, -0.1, 128), np.linspace(0.1, 20, 128)]).astype(np.float32)
out = np.zeros((256, 4), np.float32)
flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
buffer = cl.Buffer(context, flags, hostbuf=out)
assert buffer.size == out.nbytes
cl.Program(context, SOURCE).build().native(queue, (256,), None, cl.Buffer(context, flags, hostbuf=x), buffer)
cl.enqueue_copy(queue, out, buffer)
v = x.astype(np.float64)
right = np.stack([np.exp(v), 1 / v, 1 / np.sqrt(abs(v)), v * v], 1)
allocation = virtual_gpu.snapshot().allocations["buffer"]
print(json.dumps({"error": float(abs(out / right - 1).max()), "bytes": allocation.bytes}))
"""
    found = result(START + OPENCL + code, programs, PYOPENCL_NO_CACHE="1")
    assert found["error"] < 2e-6
    assert found["bytes"] == 256 * 4 * 5


def test_times_of_a_command_that_has_not_ended_are_waited_for(programs: Path) -> None:
    """The plugin asks for them so when a prompt ran in a loop."""
    code = """
SOURCE = '''kernel void slow(global float *x) {
    float sum = x[get_global_id(0)];
    for (int i = 0; i < 3000000; i++) sum = sum * 0.999f + 0.5f;
    x[get_global_id(0)] = sum;
}'''
queue = cl.CommandQueue(context, properties=cl.command_queue_properties.PROFILING_ENABLE)
x = cl.Buffer(context, cl.mem_flags.READ_WRITE, 64 * 4)
kernel = cl.Program(context, SOURCE).build().slow
waited = []
for _ in range(3):
    event = kernel(queue, (64,), (1,), x)
    queue.flush()
    running = event.command_execution_status != cl.command_execution_status.COMPLETE
    waited.append(running and event.profile.end > event.profile.start)
print(json.dumps({"waited": waited}))
"""
    assert result(START + OPENCL + code, programs, PYOPENCL_NO_CACHE="1")["waited"] == [True] * 3
