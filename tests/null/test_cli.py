"""``ov-moe optimize`` where it refuses, and what it needs: nothing but openvino."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import openvino as ov
import pytest
from typer.testing import CliRunner, Result

from ov_moe import cli
from ov_moe.demo import MODEL
from ov_moe.folder import run, write

IR, BIN = "openvino_model.xml", "openvino_model.bin"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the demo's model folder."""
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def optimize(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["optimize", *map(str, arguments)])


def refused(result: Result, says: str) -> None:
    """Exit status 1 and one sentence, without a traceback."""
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stderr.startswith("ov-moe: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def cut(path: Path, part: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])


BROKEN = {
    "no such folder": (shutil.rmtree, "There is no model at"),
    "no IR in it": (lambda m: (m / IR).unlink(), "holds no OpenVINO IR"),
    "another XML": (lambda m: (m / IR).write_text("<html/>"), "holds no OpenVINO IR"),
    "an empty XML": (lambda m: (m / IR).write_text(""), "is broken XML (no element found"),
    "half an XML": (lambda m: cut(m / IR), "is broken XML ("),
    "an old IR": (lambda m: (m / IR).write_text('<net version="6"/>'), "is no IR of version 10 or 11"),
    "no weights": (lambda m: (m / BIN).unlink(), "are missing: there is no openvino_model.bin"),
    "half of the weights": (
        lambda m: cut(m / BIN),
        "(Incorrect weights in bin file): export it again, or copy both files again.",
    ),
    "an unknown operation": (
        lambda m: (m / IR).write_text((m / IR).read_text().replace('type="MatMul"', 'type="Mutmal"', 1)),
        "doesn't contain the operation with type: Mutmal",
    ),
    "a link to nothing": (
        lambda m: (m / "tokenizer.json").symlink_to("nowhere"),
        "tokenizer.json is a link to nothing",
    ),
    "a link in a circle": (lambda m: (m / "loop").symlink_to(m), "loop is a link to a folder that it lies in"),
    "a pipe": (lambda m: os.mkfifo(m / "pipe"), "pipe is neither a file nor a folder"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_cannot_be_served(name: str, model: Path, out: Path) -> None:
    break_it, says = BROKEN[name]
    break_it(model)
    refused(optimize(model, out), says)
    assert left(out.parent) <= {"model"}


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("model", "is where the model lies"),
        ("model/../model/", "is where the model lies"),
        (".", "is where the model lies"),
        ("model/fused", "lies inside the model's folder"),
        ("link/fused", "lies inside the model's folder"),
        ("out.xml", "would be a folder: name it without .xml"),
        ("file/out", "file is no folder: nothing can be written into it"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--force",)])
def test_an_output_that_is_in_the_way(output: str, says: str, options: tuple[str], model: Path) -> None:
    folder = model.parent
    (folder / "link").symlink_to(model)
    (folder / "file").write_text("")
    refused(optimize(model, folder / output, *options), says)
    assert left(folder) == {"model", "link", "file"}
    assert left(model) == left(MODEL)


def test_nothing_is_replaced_without_force_and_only_models_with_it(model: Path, out: Path) -> None:
    out.mkdir()
    refused(optimize(model, out), "exists already: name another folder, or replace it with --force")
    (out / "thesis.tex").write_text("years of work")
    refused(optimize(model, out, "--force"), "holds no ov_moe_manifest.json, in which ov-moe lists what it wrote")
    shutil.rmtree(out)
    out.write_text("years of work")
    refused(optimize(model, out, "--force"), "is no folder, so --force does not replace it")
    out.unlink()
    out.symlink_to(model.parent)
    refused(optimize(model, out, "--force"), "is where the model lies")
    assert left(out.parent) == {"model", "out"}


@pytest.mark.parametrize(
    ("options", "status"),
    [(("--max-tokens", "0"), 1), (("--max-tokens", "65537"), 1), (("--balance", "maybe"), 2), (("--report", "xml"), 2)],
)
def test_arguments_out_of_range(options: tuple[str, str], status: int, model: Path, out: Path) -> None:
    result = optimize(model, out, *options)
    assert result.exit_code == status
    assert not out.exists()
    if status == 1:
        refused(result, f"max_tokens is {options[1]}, it must be a whole number from 1 to 65536")


def test_a_dry_run_only_reports(model: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "rewrite_and_save", None)  # the only place where weights are copied
    before = {path: path.stat().st_mtime_ns for path in model.parent.rglob("*")}
    result = optimize(model, out, "--dry-run", "--report", "json", "--max-tokens", "77", "--balance", "off")
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert report["output"] is None
    assert report["others"] == ["README.md", "config.json", "generation_config.json"]
    (ir,) = report["irs"]
    assert (ir["path"], ir["action"]) == (IR, "rewritten")
    assert (ir["report"]["balance"], ir["report"]["max_tokens"], ir["report"]["skipped"]) == ("off", 77, [])
    first = ir["report"]["rewritten"][0]
    assert (first["experts"], first["top_k"], first["hidden"], first["intermediate"]) == (64, 8, 128, 64)
    assert first["precision"] == dict.fromkeys(("gate", "up", "down"), "u4 g32 asym")
    assert {path: path.stat().st_mtime_ns for path in model.parent.rglob("*")} == before


def test_a_skipped_region_is_reported_with_its_node(model: Path, out: Path) -> None:
    text = (model / IR).read_text(encoding="utf-8")
    (model / IR).write_text(text.replace('type="Swish"', 'type="Mish"'), encoding="utf-8")
    result = optimize(model, out, "--report", "json")
    refused(result, "holds no MoE block that ov-moe can rewrite (the report says why): nothing to write")
    report = json.loads(result.stdout)["irs"][0]["report"]
    assert report["rewritten"] == []
    assert len(report["skipped"]) == 2
    for number, region in enumerate(report["skipped"]):
        assert f"layers.{number}." in region["name"]
        assert "Mish '" in region["reason"]
    assert "Mish" in optimize(model, out).stdout
    assert not out.exists()


def test_a_model_without_blocks(tmp_path: Path, out: Path) -> None:
    ops = ov.opset13
    x = ops.parameter([1, 4], ov.Type.f32)
    plain = ov.Model([ops.matmul(x, ops.constant([[1.0] * 4] * 4, ov.Type.f32), False, True)], [x])
    ov.save_model(plain, tmp_path / "m" / "plain.xml")
    result = optimize(tmp_path / "m", out)
    refused(result, "holds no MoE block: nothing to write")
    assert "plain.xml: No MoE block was found" in result.stdout
    assert not out.exists()


def test_a_full_disk_is_noticed_before(model: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    refused(optimize(model, out), f"{out.parent} has room for 1.0 MB only")
    assert left(out.parent) == {"model"}


@pytest.mark.parametrize("place", ["model", "target"])
def test_a_missing_permission(place: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "target"
    target.mkdir()
    closed = model / BIN if place == "model" else target
    if os.geteuid() != 0:
        closed.chmod(0o500 if closed.is_dir() else 0)
    else:  # the superuser may read and write everything

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(closed))

        monkeypatch.setattr(*(run, "read") if place == "model" else (write, "draft"), refuse)
    result = optimize(model, target / "out")
    closed.chmod(0o700)
    refused(result, f"{closed}")
    refused(result, "Permission denied")
    assert left(target) == set()


def test_it_loads_no_gpu_plugin_and_starts_no_virtual_gpu(model: Path, out: Path) -> None:
    code = (
        "import sys\n"
        "from ov_moe import cli, virtual_gpu\n"
        "cli.app(['optimize', *sys.argv[1:]], standalone_mode=False)\n"
        "maps = open('/proc/self/maps').read()\n"
        "assert not virtual_gpu.running() and 'intel_gpu_plugin' not in maps and 'virtual_gpu' not in maps\n"
        "print('libopenvino.so' in maps)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("OV_MOE_VIRTUAL_GPU",)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(model), str(out)],
        env={**environment, "OCL_ICD_VENDORS": "/nowhere", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("True\n")
    assert (out / BIN).exists()
