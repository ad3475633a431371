"""How all commands write their files and end: whole files or none, one sentence, and the status that shells expect."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ov_moe.cli import app
from ov_moe.commands import output_files
from ov_moe.errors import OutputError
from ov_moe.kernel_bench import recorded

KERNELS = ("kernels", "bench", "--shape", "34/18/5/2", "--tokens", 3, "--distribution", "uniform", "--schedule", "grid")
SHOW = ("trace", "show", Path(recorded.__file__).parent / "data" / recorded.SHIPPED)
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_full_disk_leaves_old_files_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "x.json", tmp_path / "x.csv"
    output_files.write_whole(old, "old")
    synced = list[int]()

    def full(handle: int) -> None:
        synced.append(handle)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"x\.csv could not be written: No space left on device\."):
        output_files.write_together({old: "new", new: "new"})
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"]
    assert old.read_text(encoding="utf-8") == "old"
    output_files.write_together({old: "newer", new: b"new"})
    assert (old.read_text(encoding="utf-8"), new.read_bytes(), len(list(tmp_path.iterdir()))) == ("newer", b"new", 2)


@pytest.mark.parametrize(
    "arguments",
    [
        (*KERNELS, "--csv"),
        (*KERNELS, "--json"),
        (*KERNELS, "--plot"),
        ("doctor", "--json"),
        (*SHOW, "--heat-map"),
        (*SHOW, "--timeline"),
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[-1]}",
)
def test_a_place_that_is_not_there_is_refused_before_anything_runs(arguments: tuple[object, ...]) -> None:
    done = run(*arguments, "/no/such/folder/x.png")
    assert done.exit_code == 1
    assert done.stderr == "ov-moe: /no/such/folder/x.png cannot be written: No such file or directory.\n"
    assert not done.stdout


def test_a_plot_in_no_format_is_refused_before_anything_runs(tmp_path: Path) -> None:
    done = run(*KERNELS, "--plot", tmp_path / "x.xyz")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "x.xyz names no format of pictures: end it with one of" in done.stderr


def test_a_link_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "there" / "x.json", tmp_path / "x.json"
    real.parent.mkdir()
    link.symlink_to(real)
    output_files.check_writable([link])
    output_files.write_whole(link, "content")
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8") == "content"
    assert [each.name for each in real.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1", "link"])
def test_standard_output_in_a_file_gets_the_table_and_what_is_named_so(name: str, tmp_path: Path) -> None:
    """A file behind /dev/stdout is open: it is neither replaced nor truncated."""
    link, file = tmp_path / "link", tmp_path / "printed.txt"
    link.symlink_to("/dev/stdout")
    code = (
        "import sys; from pathlib import Path; from ov_moe.commands import output_files\n"
        "print('table'); path = Path(sys.argv[1]); output_files.check_writable([path])\n"
        "output_files.write_whole(path, 'content\\n'); print('end')"
    )
    with file.open("w", encoding="utf-8") as stdout:
        place = str(link) if name == "link" else name
        done = subprocess.run([sys.executable, "-c", code, place], stdout=stdout, check=False)
    assert done.returncode == 0
    assert file.read_text(encoding="utf-8").split() == ["table", "content", "end"]
    assert link.is_symlink()
    assert Path("/dev/stdout").is_symlink()


@pytest.mark.parametrize(
    "arguments", [(*KERNELS, "--csv", "{}", "--json", "{}"), (*SHOW, "--heat-map", "{}", "--timeline", "{}")]
)
def test_two_outputs_in_one_place_are_refused(arguments: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "x.png")
    names = iter([tmp_path / "x.png", tmp_path / "link.png"])
    done = run(*(next(names) if word == "{}" else word for word in arguments))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ov-moe: {tmp_path}")
    assert done.stderr.endswith(".png is the place of two outputs: give each a name of its own.\n")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--shape", "64/32/64/8,64/32/8/2", "--distribution", "uniform,powerful"), "'powerful' needs a number"),
        (("--precision", "f16,f17"), "f17"),
        (("--set", "micro_kernel=mma"), "--set micro_kernel=mma: "),
        (("--set", "tile_m=0"), "tile_m is 0, it must be at least 1."),
        (("--distribution", "recorded:/nowhere.csv@0"), "'/nowhere.csv' cannot be read: No such file or directory."),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(
    options: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    done = run(*KERNELS, *options, "--json", tmp_path / "x.json")
    assert done.exit_code == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@needs_full
def test_standard_output_that_is_full_is_one_sentence() -> None:
    for words in (["--version"], ["kernels", "bench", "--list"]):
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            command = [sys.executable, "-m", "ov_moe.cli", *words]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == "ov-moe: Standard output, or another stream: No space left on device.\n"


@needs_full
@pytest.mark.parametrize(
    "arguments",
    [(*KERNELS, "--csv"), ("doctor", "--no-probe", "--json"), (*SHOW, "--heat-map")],
    ids=lambda arguments: f"{arguments[0]} {arguments[-1]}",
)
def test_no_space_is_one_sentence(arguments: tuple[object, ...], tmp_path: Path) -> None:
    place = tmp_path / "full.png"  # a picture's name has to end in a format
    place.symlink_to("/dev/full")
    done = run(*arguments, place)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == f"ov-moe: {place} could not be written: No space left on device."
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_benchmark_keeps_what_it_measured(number: signal.Signals, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    # A child sees the machine as it is, and that may have no OpenCL.
    words = [*map(str, KERNELS), "--device", "cpu", "--tokens", "1,500,600,700,800", "--json", file]
    command = [sys.executable, "-m", "ov_moe.cli", *words]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **streams) as child:
        assert child.stdout is not None
        line = ""
        while "T=1:" not in line:
            line = child.stdout.readline()
            assert line, "it ended by itself"
        child.send_signal(number)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + number
    assert said.splitlines()[-1] == "ov-moe: Interrupted. Shown and written is what was complete: 1 of 5 rows."
    assert json.loads(file.read_text(encoding="utf-8"))["rows"][0]["tokens"] == 1
    assert list(tmp_path.iterdir()) == [file]


def test_a_run_that_nohup_started_goes_on() -> None:
    code = (
        "import os, signal; from ov_moe.commands.guard import one_sentence\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with one_sentence():\n    os.kill(os.getpid(), signal.SIGHUP); print('on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"on\n")


def test_what_openvino_raises_is_one_sentence() -> None:
    code = (
        "import openvino as ov; from ov_moe.commands.guard import one_sentence\n"
        "with one_sentence():\n    ov.Core().read_model('/nowhere.xml')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("ov-moe: OpenVINO says: ")
    assert "/nowhere.xml" in done.stderr.splitlines()[0]
