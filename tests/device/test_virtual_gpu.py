"""The virtual GPU; each case is a process of its own, as it must start before openvino is imported."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from ov_moe.devices import intel_cpu_runtime
from ov_moe.errors import DeviceError
from ov_moe.virtual_gpu import build

pytest.importorskip("openvino")

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


@pytest.fixture(scope="module", autouse=True)
def _runtime() -> None:
    done = run(START, "")
    if "is not installed" in done.stderr or "Linux x86-64 only" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


def test_start_after_openvino_is_refused_in_one_sentence(programs: Path) -> None:
    done = run("import openvino\n" + START, programs)
    assert "DeviceError: The virtual GPU has to start before openvino" in done.stderr.splitlines()[-1]


def test_snapshot_before_start_is_refused(programs: Path) -> None:
    done = run("from ov_moe import virtual_gpu\nassert not virtual_gpu.running()\nvirtual_gpu.snapshot()", programs)
    assert "DeviceError: The virtual GPU is not running" in done.stderr.splitlines()[-1]


def test_openvino_lists_a_gpu_that_says_it_is_virtual(programs: Path) -> None:
    code = """
        virtual_gpu.start()  # twice is once
        import json, openvino as ov
        core = ov.Core()
        print(json.dumps({"devices": core.available_devices, "name": core.get_property("GPU", "FULL_DEVICE_NAME")}))
    """
    found = result(START + textwrap.dedent(code), programs)
    assert "GPU" in found["devices"]
    assert "virtual GPU" in found["name"]


def test_all_that_it_keeps_stands_in_the_cache_folder(tmp_path: Path) -> None:
    environment = {"OV_MOE_CACHE": str(tmp_path), "HOME": "/nowhere", "XDG_CACHE_HOME": "/nowhere"}
    code = "import os\ndel os.environ['OV_MOE_VGPU_CACHE']\n" + START + OPENCL
    code += f"cl.Program(context, {ALONG_2!r}).build()\nprint('{{}}')"
    result(code, "", **environment, PYOPENCL_NO_CACHE="1")
    assert [path.suffix for path in (tmp_path / "virtual_gpu" / "programs").iterdir()] == [".bin"]
    assert {path.name for path in tmp_path.iterdir()} == {"virtual_gpu"}


# What a process sees of OpenCL and of OpenVINO, and the variables that it was given.
LOOK = """
import json, os
variables = sorted(name for name in os.environ if name.startswith(("OCL_", "OPENCL_", "PYOPENCL_", "OV_MOE_")))
import openvino as ov
import pyopencl as cl
try:
    names = [device.name for platform in cl.get_platforms() for device in platform.get_devices()]
except cl.Error:
    names = []
print(json.dumps({"variables": variables, "opencl": names, "openvino": ov.Core().available_devices}))
"""


@pytest.mark.parametrize("start", [START, "from ov_moe.devices import intel_cpu_runtime\nintel_cpu_runtime.use()\n"])
def test_a_child_sees_the_machine_as_it_is(start: str, programs: Path) -> None:
    """Both ways of passing an environment on: Python's own copy of it, and the C library's."""
    code = f"""
import json, os, subprocess, sys
LOOK = {LOOK!r}
def look():
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
def of_c():
    return subprocess.run("env | sort", shell=True, capture_output=True, text=True, check=True).stdout
before, variables = look(), of_c()
{start}
print(json.dumps({{"before": before, "after": look(), "same": variables == of_c()}}))
"""
    found = result(code, programs)
    assert found["after"] == found["before"]
    assert found["same"]


# A driver with one GPU that answers what the plugin asks of a GPU of another vendor before it uses it.
OTHER_DRIVER = """
#include <stddef.h>
#include <stdint.h>
#include <string.h>
struct object { void **dispatch; } platform, device;
static int none(void) { return -59; }
static int answer(const void *text, size_t bytes, size_t size, void *value, size_t *size_ret) {
    if (size_ret) *size_ret = bytes;
    if (value && size < bytes) return -30;
    if (value) memcpy(value, text, bytes);
    return 0;
}
static int text(const char *text, size_t size, void *value, size_t *size_ret) {
    return answer(text, strlen(text) + 1, size, value, size_ret);
}
int clGetPlatformInfo(struct object *which, uint32_t name, size_t size, void *value, size_t *size_ret) {
    switch (name) {
    case 0x901: return text("OpenCL 3.0 ", size, value, size_ret);
    case 0x902: case 0x903: return text("Other", size, value, size_ret);
    case 0x904: return text("cl_khr_icd", size, value, size_ret);
    case 0x920: return text("TEST", size, value, size_ret);
    default: return -30;
    }
}
static int devices(struct object *which, uint64_t type, uint32_t count, struct object **found, uint32_t *number) {
    if (number) *number = type & 4 ? 1 : 0;
    if (found && count && type & 4) *found = &device;
    return type & 4 ? 0 : -1;
}
static int device_info(struct object *which, uint32_t name, size_t size, void *value, size_t *size_ret) {
    uint64_t type = 4, zero = 0;
    struct object *its_platform = &platform;
    switch (name) {
    case 0x1000: return answer(&type, 8, size, value, size_ret);
    case 0x1031: return answer(&its_platform, 8, size, value, size_ret);
    case 0x102B: return text("A real GPU", size, value, size_ret);
    case 0x102C: case 0x1030: case 0x102D: case 0x103D: return text("", size, value, size_ret);
    case 0x102F: return text("OpenCL 3.0 ", size, value, size_ret);
    default: return answer(&zero, 4, size, value, size_ret);
    }
}
int clIcdGetPlatformIDsKHR(uint32_t count, struct object **found, uint32_t *number) {
    static void *table[200];
    for (int i = 0; i < 200; i++) table[i] = none;
    table[1] = clGetPlatformInfo; table[2] = devices; table[3] = device_info;
    platform.dispatch = device.dispatch = table;
    if (number) *number = 1;
    if (found && count) *found = &platform;
    return 0;
}
void *clGetExtensionFunctionAddress(const char *name) {
    return !strcmp(name, "clIcdGetPlatformIDsKHR") ? (void *)clIcdGetPlatformIDsKHR
        : !strcmp(name, "clGetPlatformInfo") ? (void *)clGetPlatformInfo : NULL;
}
"""


def test_a_gpu_of_the_machine_stays_visible_behind_it(tmp_path: Path, programs: Path) -> None:
    library = tmp_path / "libother.so"
    (tmp_path / "other.c").write_text(OTHER_DRIVER, encoding="utf-8")
    flags = ("-shared", "-fPIC", "-w", "-Wl,-Bsymbolic")
    subprocess.run([*build.compiler(), *flags, str(tmp_path / "other.c"), "-o", str(library)], check=True)
    folder = tmp_path / "vendors"
    folder.mkdir()
    (folder / "other.icd").write_text(f"{library}\n", encoding="utf-8")
    (folder / "cpu.icd").write_text("/opt/intel/lib/libintelocl.so\n", encoding="utf-8")
    for place in (folder, folder / "other.icd"):
        done = run(START + MODEL + LOOK_AND_RUN, programs, OCL_ICD_VENDORS=str(place))
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["opencl"] == ["A real GPU", "ov-moe virtual GPU (Intel OpenCL CPU runtime)"]
        assert found["openvino"] == ["CPU", "GPU"]  # the plugin serves Intel's alone
        assert "virtual GPU" in found["name"]
        assert found["difference"] < 1e-5
        assert done.stderr == (
            "The virtual GPU is GPU, or GPU.0, in this process; GPUs of the machine come after it where OpenVINO "
            "serves them: A real GPU.\n"
        )
        assert found["variables"] == str(place)


LOOK_AND_RUN = """
import os
import pyopencl as cl
print(json.dumps({
    "opencl": sorted(device.name for platform in cl.get_platforms() for device in platform.get_devices()),
    "openvino": core.available_devices,
    "name": core.get_property("GPU", "FULL_DEVICE_NAME"),
    "difference": difference(run("GPU", 5, 64, 96), run("CPU", 5, 64, 96)),
    "variables": os.environ["OCL_ICD_VENDORS"],
}))
"""


def test_the_runtime_for_cpus_is_shown_as_such_or_not_at_all(programs: Path) -> None:
    use = "from ov_moe.devices import intel_cpu_runtime\nintel_cpu_runtime.use()\n"
    show = "import json, pyopencl as cl\n"
    show += "print(json.dumps([device.name for platform in cl.get_platforms() for device in platform.get_devices()]))"
    done = run(use + show, programs)
    assert done.returncode == 0, done.stderr
    assert "virtual" not in done.stdout
    assert len(json.loads(done.stdout)) == 1
    done = run(START + use, programs)
    assert "DeviceError: Intel's OpenCL CPU runtime is the virtual GPU in this process" in done.stderr.splitlines()[-1]


def test_environment_variable_starts_it_on_import(programs: Path) -> None:
    code = "import json, ov_moe, openvino as ov\nprint(json.dumps({'devices': ov.Core().available_devices}))"
    assert "GPU" in result(code, programs, OV_MOE_VIRTUAL_GPU="1")["devices"]


MODEL_RUN = """
sizes = (5, 64, 96)
before = run("CPU", *sizes)
virtual_gpu.reset()
after = run("GPU", *sizes)
counters = virtual_gpu.snapshot()
virtual_gpu.reset()
empty = virtual_gpu.snapshot()
print(json.dumps({
    "difference": difference(after, before),
    "builds": len(counters.builds),
    "cached": sum(build.cached for build in counters.builds),
    "built": sorted(name for build in counters.builds for name in build.kernels),
    "launched": sorted(counters.launches),
    "groups": min(launch.groups for launch in counters.launches.values()),
    "usm": sum(counters.allocations[kind].count for kind in counters.allocations if kind.startswith("usm")),
    "peak": max(allocation.peak_bytes for allocation in counters.allocations.values()),
    "waits": counters.blocking_waits,
    "left": len(empty.builds) + len(empty.launches) + empty.blocking_waits,
}))
"""


def test_model_equals_the_cpu_plugin_and_is_counted_and_cached(tmp_path: Path) -> None:
    code = START + MODEL + MODEL_RUN
    first = result(code, tmp_path)
    assert first["difference"] < 1e-5
    assert first["builds"] > 0
    assert first["cached"] == 0
    assert set(first["launched"]) <= set(first["built"])
    assert first["groups"] > 0
    assert first["usm"] > 0
    assert first["peak"] >= 64 * 96 * 4
    assert first["waits"] > 0
    assert first["left"] == 0

    second = result(code, tmp_path)
    assert second["cached"] == second["builds"] == first["builds"]
    assert second["difference"] == first["difference"]

    for number, file in enumerate(sorted(tmp_path.iterdir())):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes((b"", bytes(content), bytes(content[:-9]))[number % 3])
    third = result(code, tmp_path)
    assert third["cached"] == 0
    assert third["difference"] == first["difference"]

    off = result(code, "")
    assert off["cached"] == 0
    assert off["difference"] == first["difference"]


def test_weight_reorder_along_dimension_2(programs: Path) -> None:
    code = """
        sizes = (5, 64, 96)
        found = {"difference": difference(run("GPU", *sizes), run("CPU", *sizes))}
        found["reorders"] = list(virtual_gpu.snapshot().launches_of("reorder_weights_opt"))
        print(json.dumps(found))
    """
    found = result(START + MODEL + textwrap.dedent(code), programs)
    assert found["difference"] < 1e-5
    assert found["reorders"]


def test_runtime_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(distribution: str) -> None:
        raise importlib.metadata.PackageNotFoundError(distribution)

    monkeypatch.setattr(importlib.metadata, "files", none)
    with pytest.raises(DeviceError, match=r"is not installed; `pip install ov-moe\[virtual-gpu\]`"):
        intel_cpu_runtime.find.__wrapped__()


def test_runtime_after_openvino_is_refused(programs: Path) -> None:
    done = run("import openvino\nfrom ov_moe.devices import intel_cpu_runtime\nintel_cpu_runtime.use()", programs)
    assert "DeviceError: Intel's OpenCL CPU runtime needs" in done.stderr.splitlines()[-1]


def test_missing_compiler_is_one_sentence(tmp_path: Path) -> None:
    done = run(START, "", PATH=str(tmp_path), CC="", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode
    assert "DeviceError: The virtual GPU compiles a small C library" in done.stderr.splitlines()[-1]


def test_many_processes_start_at_once_on_an_empty_cache(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("OV_MOE_VGPU_CACHE", None)
    code = START + OPENCL + "print(device.name)"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) for _ in range(4)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert b"virtual GPU" in output
    assert len(list(tmp_path.rglob("*.so"))) == 1


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
