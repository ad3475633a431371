"""The virtual GPU; each case is a process of its own, as it must start before openvino is imported."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from virtual_gpu_child import ALONG_2, MODEL, OPENCL, START, result, run

from ov_moe.devices import intel_cpu_runtime
from ov_moe.errors import DeviceError
from ov_moe.virtual_gpu import build

pytest.importorskip("openvino")
pytestmark = pytest.mark.usefixtures("virtual_gpu_runtime")


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
for name in ("OCL_ICD_VENDORS", "OCL_ICD_FILENAMES", "OPENCL_LAYERS", "PYOPENCL_HOME"):
    os.environ.pop(name, None)  # of the process of the tests, which has shown its loaders a driver too
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
