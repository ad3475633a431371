"""``ov-moe optimize`` on whole folders: what is rewritten, what is carried over, and whole or not at all."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openvino as ov
import pytest
from blocks_on_plugin import SMALL

import ov_moe
import ov_moe.genai
from ov_moe.demo import MODEL
from ov_moe.errors import InvalidInputError, OvMoeError
from ov_moe.folder import swap
from ov_moe.folder.manifest import MANIFEST
from ov_moe.folder.ours import check_ours
from ov_moe.folder.run import optimize_folder
from ov_moe.testing.graphs import moe_block_model

COMMAND = Path(sys.executable).with_name("ov-moe")
IR, BIN = "openvino_model.xml", "openvino_model.bin"


def save(model: ov.Model, path: Path) -> None:
    ov.save_model(model, path, compress_to_fp16=False)


def embeddings() -> ov.Model:
    """An IR without any MatMul."""
    ids = ov.opset13.parameter([-1, -1], ov.Type.i64)
    table = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    return ov.Model([ov.opset13.gather(ov.opset13.constant(table), ids, np.int64(0))], [ids])


def vision() -> ov.Model:
    """An IR with a MatMul and no block."""
    x = ov.opset13.parameter([-1, 8], ov.Type.f32)
    weights = np.random.default_rng(1).standard_normal((8, 8)).astype(np.float32)
    return ov.Model([ov.opset13.matmul(x, ov.opset13.constant(weights), False, True)], [x])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as exports of several models have it; only two IRs hold blocks, one of them in a sub-folder."""
    root = tmp_path / "model"
    for index, name in enumerate(("openvino_language_model", "draft/language_model")):
        model, _ = moe_block_model(rng=np.random.default_rng(index), **{**SMALL, "blocks": 2 - index})
        save(model, root / f"{name}.xml")
    save(embeddings(), root / "openvino_text_embeddings_model.xml")
    save(vision(), root / "openvino_vision_model.xml")
    # A tokenizer needs an extension to be read: an operation that openvino does not know.
    text = (root / "openvino_text_embeddings_model.xml").read_text()
    unknown = text.replace('type="Gather" version="opset8"', 'type="StringTensorUnpack" version="extension"')
    assert unknown != text
    (root / "openvino_tokenizer.xml").write_text(unknown)
    (root / "openvino_tokenizer.bin").write_bytes(b"words")
    (root / "config.json").write_text('{"model_type": "qwen3_moe"}')
    (root / "lonely.bin").write_bytes(b"no IR beside it")
    (root / "page.xml").write_text("<html/>")
    (tmp_path / "blob").write_text("{{ chat }}")
    (root / "chat_template.jinja").symlink_to(tmp_path / "blob")
    for name in (".git/config", ".cache/huggingface/x.lock", "model_cache/1.blob", "draft/assets/a.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def files(root: Path) -> dict[str, bytes]:
    """Content of every file below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_ir_with_blocks_is_rewritten_and_all_else_carried_over(folder: Path, tmp_path: Path) -> None:
    before, out = files(folder), tmp_path / "new" / "out"
    report = optimize_folder(folder, out, max_tokens=16)
    rewritten = {"draft/language_model.xml": 1, "openvino_language_model.xml": 2}
    assert {ir.path: len(ir.report.rewritten) for ir in report.irs if ir.action == "rewritten"} == rewritten
    copied = [f"openvino_{name}.xml" for name in ("text_embeddings_model", "tokenizer", "vision_model")]
    assert [ir.path for ir in report.irs if ir.action == "copied"] == copied
    assert report.left_out == (".cache", ".git", "model_cache")

    after = files(out)
    assert files(folder) == before
    assert set(after) == {name for name in before if not name.startswith(report.left_out)} | {MANIFEST}
    changed = {name for name in set(after) - {MANIFEST} if after[name] != before[name]}
    assert changed == {str(Path(name).with_suffix(kind)) for name in rewritten for kind in (".xml", ".bin")}
    assert not (out / "chat_template.jinja").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"model", "blob", "new"}
    assert {path.name for path in out.parent.iterdir()} == {"out"}

    core = ov.Core()
    ov_moe.register(core)
    x = np.random.default_rng(2).standard_normal((1, 20, SMALL["hidden"])).astype(np.float32)
    for name in rewritten:
        in_memory = core.read_model(folder / name)
        ov_moe.optimize(in_memory, max_tokens=16)
        results = [ov_moe.compile_model(core, m, "CPU")(x)[0] for m in (in_memory, core.read_model(out / name))]
        assert np.array_equal(*results)


def test_an_ir_is_carried_over_alone(folder: Path, tmp_path: Path) -> None:
    source, out = folder / "draft" / "language_model.xml", tmp_path / "out"
    assert optimize_folder(source, out, dry_run=True).rewritten == 1
    assert not out.exists()
    report = optimize_folder(source, out)
    assert (report.others, report.rewritten) == ((), 1)
    assert set(files(tmp_path / "out")) == {"language_model.xml", "language_model.bin", MANIFEST}


def test_information_and_types_survive(tmp_path: Path) -> None:
    optimize_folder(MODEL, tmp_path / "out")

    def notes(path: Path) -> dict[str, str]:
        """All rt_info of the model, by path."""
        found: dict[str, str] = {}

        def walk(element: ElementTree.Element, name: str) -> None:
            found.update({f"{name}/{element.tag}.{key}": value for key, value in element.attrib.items()})
            for child in element:
                walk(child, f"{name}/{element.tag}")

        for element in ElementTree.parse(path).getroot().findall("rt_info"):
            walk(element, "")
        return found

    before, after = notes(MODEL / IR), notes(tmp_path / "out" / IR)
    assert "/rt_info/optimum/optimum_intel_version.value" in before
    assert any("weight_compression" in name for name in before)
    assert after == {**before, "/rt_info/ov_moe/balance.value": "auto"}

    def types(path: Path) -> dict[str, tuple[str, str]]:
        layers = ElementTree.parse(path).getroot().findall("layers/layer[@type='Const']")
        data = {layer.get("name"): layer.find("data") for layer in layers}
        return {name: (d.get("element_type"), d.get("shape")) for name, d in data.items() if int(d.get("size")) > 64}

    old, new = types(MODEL / IR), types(tmp_path / "out" / IR)
    kept = {name for name in new if "mlp.experts" not in name}
    assert len(kept) > 10
    assert all(new[name] == old[name] for name in kept)
    # Also the experts' constants: as many bytes, 4-bit ones as u8.
    assert {kind for name, (kind, _) in new.items() if name not in kept} == {"u8", "f16"}
    assert (tmp_path / "out" / BIN).stat().st_size <= 1.01 * (MODEL / BIN).stat().st_size


def test_optimised_again_it_says_so(tmp_path: Path) -> None:
    optimize_folder(MODEL, tmp_path / "out")
    report = optimize_folder(tmp_path / "out", tmp_path / "again")
    assert (report.rewritten, report.already, report.output) == (0, 2, None)
    command = [COMMAND, "optimize", tmp_path / "out", tmp_path / "again"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "The model is already optimised (2 MoE blocks on ov-moe's operations)" in done.stdout
    assert done.stderr == (
        f"ov-moe: {tmp_path / 'out'} is already optimised: start from the original IR to change balance or "
        "--max-tokens.\n"
    )
    assert not (tmp_path / "again").exists()


def test_in_memory_the_second_report_is_empty() -> None:
    model, _ = moe_block_model(rng=np.random.default_rng(0), **{**SMALL, "blocks": 3})
    first = ov_moe.optimize(model, "on", max_tokens=8)
    assert (len(first.rewritten), first.already) == (3, 0)
    operations = len(model.get_ops())
    second = ov_moe.optimize(model, "off", max_tokens=9)
    assert (second.rewritten, second.skipped, second.already) == ((), (), 3)
    assert str(second).startswith("The model is already optimised (3 MoE blocks")
    assert json.loads(second.to_json()) == second.to_dict()
    assert second.to_dict()["already"] == 3
    assert len(model.get_ops()) == operations


def test_force_replaces_a_model_whole(folder: Path, tmp_path: Path) -> None:
    optimize_folder(MODEL, tmp_path / "out")
    optimize_folder(folder / "draft", tmp_path / "out", force=True)
    assert set(files(tmp_path / "out")) == {"language_model.xml", "language_model.bin", "assets/a.txt", MANIFEST}
    assert {path.name for path in tmp_path.iterdir()} == {"model", "blob", "out"}


@pytest.mark.parametrize("function", [optimize_folder, ov_moe.genai.optimize])
def test_force_deletes_nothing_of_the_user(function: Callable[..., object], folder: Path, tmp_path: Path) -> None:
    """An IR somewhere below is no leave to delete all else."""
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    for name in (IR, BIN):
        (out / "sub" / name).write_bytes((MODEL / name).read_bytes())
    (out / "thesis.txt").write_text("years of work")
    before = files(tmp_path)
    with pytest.raises(InvalidInputError, match=r"holds no ov_moe_manifest\.json"):
        function(MODEL, out, force=True)
    assert files(tmp_path) == before
    function(MODEL, tmp_path / "ours")
    (tmp_path / "ours" / "thesis.txt").write_text("years of work")
    before = files(tmp_path)
    with pytest.raises(InvalidInputError, match=r"ours holds thesis\.txt, which ov-moe did not write, so --force"):
        function(folder / "draft", tmp_path / "ours", force=True)
    assert files(tmp_path) == before


def test_arguments_come_before_their_variables(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """few_tokens of the variable is above max_tokens of the argument, and counts for nothing."""
    monkeypatch.setenv("OV_MOE_FEW_TOKENS", "1000")
    done = optimize_folder(folder, tmp_path / "out", max_tokens=8, few_tokens=4)
    assert done.output == str(tmp_path / "out")


def test_a_manifest_is_not_carried_over(folder: Path, tmp_path: Path) -> None:
    for place in (folder, folder / "draft"):
        (place / MANIFEST).write_text("of another folder")
    report = optimize_folder(folder, tmp_path / "out")
    assert report.left_out == (".cache", ".git", f"draft/{MANIFEST}", "model_cache", MANIFEST)
    check_ours(tmp_path / "out")
    assert not (tmp_path / "out" / "draft" / MANIFEST).exists()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("call", [0, 1, 3, -1])
def test_an_exception_at_any_time_leaves_nothing(call: int, force: bool, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    if force:
        optimize_folder(MODEL, out)
    before = files(tmp_path)
    heard: list[str] = []

    def hear(what: str, done: int, total: int) -> None:
        if what.startswith("reading"):
            return
        heard.append(what)
        # The last one is a copy; the others are while the rewrite of the first IR runs in its process.
        if len(heard) == call + 1 or (call < 0 and what == "page.xml"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimize_folder(folder, out, force=force, progress=hear)
    assert heard[0] == "language_model.xml"
    assert files(tmp_path) == before
    assert out.parent.exists() == force


def test_a_failing_swap_puts_the_old_model_back(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where folders cannot be exchanged in one step."""
    optimize_folder(MODEL, tmp_path / "out")
    before, rename = files(tmp_path), os.rename

    def fail(source: Path, target: Path) -> None:
        if Path(target).name == "out" and Path(source).name == "new":
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(swap, "exchange", lambda *_: False)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"):
        optimize_folder(folder, tmp_path / "out", force=True)
    assert files(tmp_path) == before


@pytest.mark.parametrize("limit", [1 << 19, 1 << 21])
def test_a_disk_that_fills_up_leaves_nothing(limit: int, tmp_path: Path) -> None:
    """A file that cannot grow stands for the disk: of the weights, or (they are written) of another file."""
    model = tmp_path / "model"
    model.mkdir()
    for name in (IR, BIN):
        (model / name).write_bytes((MODEL / name).read_bytes())
    (model / "z.json").write_bytes(bytes(3 << 20))
    done = subprocess.run(
        [COMMAND, "optimize", model, tmp_path / "out"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    says = f"Writing {IR} failed, perhaps because the disk is full" if limit < 1 << 20 else "File too large"
    assert says in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_weights_that_were_cut_short_in_silence_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import openvino as ov, os, sys; from ov_moe.children import serve; real = ov.save_model\n"
        "def cut(model, path, **options):\n"
        "    real(model, path, **options); os.truncate(path.with_suffix('.bin'), 10**6)\n"
        "ov.save_model = cut; serve(1, *sys.argv[3:])"
    )
    monkeypatch.setattr("ov_moe.children._CHILD", code)
    with pytest.raises(OvMoeError, match=r"Writing openvino_model.xml failed.*Incorrect weights in bin file"):
        optimize_folder(MODEL, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_rewrite_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ov_moe.children._CHILD", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(OvMoeError, match="was ended by signal 9: was there too little memory"):
        optimize_folder(MODEL, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    # As a terminal does it: to the whole group of processes.
    with subprocess.Popen(
        [COMMAND, "optimize", MODEL, tmp_path / "out"], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".out.*/new")) and time.monotonic() < deadline:
            time.sleep(0.002)
        os.killpg(child.pid, number)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + number
    assert said == "ov-moe: Interrupted: nothing was written.\n"
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_ends_the_rewrite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "it went on"
    monkeypatch.setattr("ov_moe.children._CHILD", f"import time; time.sleep(3); open({str(mark)!r}, 'w')")
    ticks: list[str] = []

    def hear(what: str, done: int, total: int) -> None:
        ticks.append(what)
        if ticks.count(IR) == 3:
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        optimize_folder(MODEL, tmp_path / "out", progress=hear)
    assert time.monotonic() - start < 2.5
    time.sleep(3)
    assert list(tmp_path.iterdir()) == []
