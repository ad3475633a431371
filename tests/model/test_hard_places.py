"""A full disk, no permission, a closed home, two users of one cache, a cleaned cache: a sentence, or it works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from blocks_on_plugin import SMALL, pair
from killing import leftovers
from places import NOBODY, as_nobody, as_someone_without_rights, small_disk

import ov_moe
from ov_moe.demo import MODEL
from ov_moe.errors import DeviceError, OutputError
from ov_moe.folder.ours import check_ours
from ov_moe.folder.write import whole_folder
from ov_moe.testing.graphs import moe_block_model

COMMAND = str(Path(sys.executable).with_name("ov-moe"))
START = "from ov_moe import virtual_gpu; virtual_gpu.start()\n"
# A program of our own through the virtual GPU's driver: built, or loaded where it is kept.
PROGRAM = """
import pyopencl as cl
device = cl.get_platforms()[0].get_devices()[0]
program = cl.Program(cl.Context([device]), "kernel void f(global int *x) { x[get_global_id(0)] = 5; }").build()
print(program.get_info(cl.program_info.KERNEL_NAMES))
"""
MODEL_OF_BLOCKS = f"""
import numpy as np, openvino as ov, ov_moe, os
from ov_moe.testing.graphs import moe_block_model
model, _ = moe_block_model(rng=np.random.default_rng(0), **{SMALL!r})
core = ov.Core()
ov_moe.optimize(model)
"""


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """A process with these variables; an empty one is taken away."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}
    variables["PYOPENCL_NO_CACHE"] = "1"  # that of the test's own programs
    variables |= environment
    kept = {name: value for name, value in variables.items() if value or name == "OV_MOE_VGPU_CACHE"}
    return subprocess.run(command, env=kept, capture_output=True, text=True, timeout=300, check=False)


def code(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("force", [False, True])
def test_optimize_on_a_disk_that_fills_up(force: bool, tmp_path: Path) -> None:
    """It has room for what is known beforehand, and not for all."""
    with small_disk(tmp_path / "disk", "2300k") as disk:
        out = disk / "out"
        if force:
            with whole_folder(out, None) as fresh:
                (fresh.folder / "a").write_text("old")
        done = run([COMMAND, "optimize", str(MODEL), str(out), *(["--force"] if force else [])])
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert "No space left on device" in done.stderr or "perhaps because the disk is full" in done.stderr
        assert {path.name for path in disk.iterdir()} == ({"out"} if force else set())
        if force:
            check_ours(out)
            assert (out / "a").read_text() == "old"


def test_optimize_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    done = run([*as_someone_without_rights(), COMMAND, "optimize", str(MODEL), str(tmp_path / "out")])
    tmp_path.chmod(0o755)
    assert done.returncode == 1
    says = f"ov-moe: {tmp_path} cannot be written (Permission denied): name another place for OUT."
    assert done.stderr.splitlines()[-1] == says  # openvino logs that its own files in the home cannot be


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that other users can enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_optimize_replaces_no_folder_of_another_user(reachable: Path) -> None:
    nobody, out = as_nobody(), reachable / "shared" / "out"
    out.parent.mkdir()
    with whole_folder(out, None) as fresh:
        (fresh.folder / "a").write_text("old")
    out.parent.chmod(0o1777)
    done = run([*nobody, COMMAND, "optimize", str(MODEL), str(out), "--force"])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ov-moe: ")
    assert "not permitted" in done.stderr
    assert (out / "a").read_text() == "old"
    assert not leftovers(out.parent)


def test_optimize_where_the_home_cannot_be_written(tmp_path: Path) -> None:
    """It keeps nothing in the cache folder."""
    place = tmp_path / "place"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    nowhere = {"HOME": "/proc", "XDG_CACHE_HOME": "", "OV_MOE_CACHE": ""}
    done = run([*as_someone_without_rights(), COMMAND, "optimize", str(MODEL), str(place / "out")], **nowhere)
    assert done.returncode == 0, done.stderr
    check_ours(place / "out")


def test_the_cpu_device_where_the_home_cannot_be_written(tmp_path: Path) -> None:
    """Its kernels are built through pyopencl, whose own cache fails there."""
    (tmp_path / "closed").mkdir(mode=0o555)
    text = (
        "from ov_moe.devices import intel_cpu_runtime; intel_cpu_runtime.use()\n"
        + MODEL_OF_BLOCKS
        + "os.environ['OV_MOE_EVALUATE'] = 'opencl'\ncompiled = ov_moe.compile_model(core, model, 'CPU')\n"
        "print(np.isfinite(compiled(np.ones((1, 4, 64), np.float32))[0]).all())"
    )
    nowhere = {"HOME": str(tmp_path / "closed"), "XDG_CACHE_HOME": "", "PYOPENCL_NO_CACHE": ""}
    done = run([*as_someone_without_rights(), *code(text)], **nowhere)
    assert done.stdout == "True\n", done.stderr


def rewritten() -> ov.Model:
    model, _ = moe_block_model(rng=np.random.default_rng(0), **SMALL)
    ov_moe.optimize(model)
    return model


def test_compile_model_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core, model = ov.Core(), rewritten()
    with small_disk(tmp_path / "disk", "16k") as disk:
        monkeypatch.setenv("OV_MOE_CACHE", str(disk))
        with pytest.raises(OutputError, match=r"No space left on device\): let OV_MOE_CACHE name a folder that can"):
            ov_moe.compile_model(core, model)
        assert not leftovers(disk)


def test_compile_model_without_permission(tmp_path: Path) -> None:
    """The virtual GPU has started with a cache that it can read; then the variable names another one."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    compile_it = f"os.environ['OV_MOE_CACHE'] = {str(closed)!r}\nov_moe.compile_model(core, model)"
    before = as_someone_without_rights()
    cache = tmp_path / "cache"
    assert run(code(START), OV_MOE_CACHE=str(cache)).returncode == 0
    text = START + MODEL_OF_BLOCKS + compile_it
    done = run([*before, *code(text)], OV_MOE_CACHE=str(cache), OV_MOE_VGPU_CACHE="")
    assert "OutputError" in last_line(done)
    assert last_line(done).endswith(
        "could not be written (Permission denied): let OV_MOE_CACHE name a folder that can."
    )


def test_a_cache_that_is_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a model is compiled elsewhere, of which OpenVINO says which file is gone, and between two models."""
    monkeypatch.setenv("OV_MOE_CACHE", str(tmp_path / "cache"))
    rng, core, model = np.random.default_rng(0), ov.Core(), rewritten()
    properties = ov_moe.compiler.prepare(core, model)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(RuntimeError, match=r"layers\.xml"):
        core.compile_model(model, "GPU", properties)
    for _ in range(2):
        made = pair(core, rng)
        assert list((tmp_path / "cache" / "layers").iterdir())
        shutil.rmtree(tmp_path / "cache")
        made.check(made.random_input(rng, 5))  # what is compiled needs it no more


def test_the_virtual_gpu_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "16k") as disk:
        done = run(code(START), OV_MOE_CACHE=str(disk))
        assert done.returncode == 1
        assert "DeviceError: The C library of the virtual GPU" in done.stderr
        assert "No space left on device" in done.stderr
        assert not leftovers(disk)


def test_programs_on_a_full_disk_are_built_and_not_kept(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4k") as disk:
        done = run(code(START + PROGRAM), OV_MOE_VGPU_CACHE=str(disk))
        assert (done.returncode, done.stdout) == (0, "f\n"), done.stderr
        assert not list(disk.iterdir())


@pytest.mark.parametrize("home", ["closed", "none"])
def test_the_virtual_gpu_where_the_home_cannot_be_written(home: str, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    place = tmp_path / "closed" if home == "closed" else Path("/proc/nowhere")
    nowhere = {"HOME": str(place), "XDG_CACHE_HOME": "", "OV_MOE_CACHE": ""}
    said = last_line(run([*as_someone_without_rights(), *code(START)], **nowhere))
    assert "DeviceError: The C library of the virtual GPU could not be built in " in said
    assert said.endswith("let OV_MOE_CACHE name a folder that can be written.")


def test_the_virtual_gpu_when_its_cache_is_cleaned(tmp_path: Path) -> None:
    """After its start, and between two programs."""
    clean = f"import shutil; shutil.rmtree({str(tmp_path / 'cache')!r})\n"
    text = START + clean + PROGRAM + PROGRAM
    done = run(code(text), OV_MOE_CACHE=str(tmp_path / "cache"))
    assert (done.returncode, done.stdout) == (0, "f\nf\n"), done.stderr


WHERE = (
    START + "from pathlib import Path; maps = Path('/proc/self/maps').read_text()\nprint(maps[maps.find(%r):][:200])"
)


def test_two_users_of_one_virtual_gpu(tmp_path: Path) -> None:
    """What root has built serves all; what another user has built serves nobody else."""
    nobody = as_nobody()
    cache = tmp_path / "cache"
    cache.mkdir()
    variables = {"OV_MOE_CACHE": str(cache), "OV_MOE_VGPU_CACHE": str(tmp_path / "nowhere")}
    text = WHERE % str(cache)
    assert run(code(text), **variables).stdout.startswith(str(cache / "virtual_gpu"))
    done = run([*nobody, *code(text + PROGRAM)], **variables)
    assert done.stdout.startswith(str(cache / "virtual_gpu")), done.stderr

    shutil.rmtree(cache / "virtual_gpu")
    cache.chmod(0o1777)
    done = run([*nobody, *code(text)], **variables)
    assert done.stdout.startswith(str(cache / "virtual_gpu")), done.stderr
    assert (cache / "virtual_gpu").stat().st_uid == NOBODY
    done = run(code(text), **variables)
    assert done.stdout.startswith(str(cache / "uid-0" / "virtual_gpu")), done.stderr


def test_an_open_cache_is_refused(tmp_path: Path) -> None:
    cache, programs = tmp_path / "cache", tmp_path / "programs"
    assert run(code(START), OV_MOE_CACHE=str(cache)).returncode == 0
    (library,) = (cache / "virtual_gpu").glob("*/*.so")
    for path in (library, library.parent, cache / "virtual_gpu"):
        mode = path.stat().st_mode
        path.chmod(0o777)
        said = last_line(run(code(START), OV_MOE_CACHE=str(cache)))
        assert f"DeviceError: {path} can be written by other users, who could put other code there: chmod go-w" in said
        path.chmod(mode)
    programs.mkdir()
    programs.chmod(0o777)
    said = last_line(run(code(START), OV_MOE_CACHE=str(cache), OV_MOE_VGPU_CACHE=str(programs)))
    assert f"DeviceError: {programs} can be written by other users" in said
    assert said.endswith("or let OV_MOE_CACHE or OV_MOE_VGPU_CACHE name another folder.")


def test_a_program_that_others_can_write_is_built_anew(tmp_path: Path) -> None:
    """Its content is not looked at: the file that was open is replaced by a closed one."""
    variables = {"OV_MOE_VGPU_CACHE": str(tmp_path / "programs")}
    assert run(code(START + PROGRAM), **variables).stdout == "f\n"
    (program,) = (tmp_path / "programs").glob("*.bin")
    built, mode = program.stat().st_ino, program.stat().st_mode
    assert mode & 0o777 == 0o644
    assert run(code(START + PROGRAM), **variables).stdout == "f\n"
    assert program.stat().st_ino == built
    program.chmod(0o666)
    left = tmp_path / "programs" / f"{program.name}.abcDEF"  # by a process that was killed
    left.touch()
    assert run(code(START + PROGRAM), **variables).stdout == "f\n"
    assert (program.stat().st_ino == built, program.stat().st_mode) == (False, mode)
    assert not left.exists()


def test_compile_model_in_an_open_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OV_MOE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(DeviceError, match=r"cache can be written by other users, .*: chmod go-w .*\(or \+t,"):
        ov_moe.compile_model(ov.Core(), rewritten())
