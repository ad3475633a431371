"""``ov-moe bench`` where it refuses, is interrupted or cannot write: one sentence, and nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from ov_moe.bench import command, turns
from ov_moe.bench.job import Job
from ov_moe.commands import figures
from ov_moe.commands.prompts import Prompt, parse_prompts, random_ids
from ov_moe.commands.tokenizer import load_tokenizer
from ov_moe.demo import MODEL
from ov_moe.errors import InvalidInputError, OvMoeError

JOB = Job("/m/model/openvino_model.xml", "GPU", "off", (Prompt(5),), 3, 2, 1, 2, 0, {}, 1024, 64, "ticket", None)

app = typer.Typer()
app.command()(command)


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_random_prompts_are_the_same_in_every_process_and_differ_within_a_batch() -> None:
    ids = random_ids(50, 2, 256, 3)
    assert np.array_equal(ids, random_ids(50, 2, 256, 3))
    assert not np.array_equal(ids[0], ids[1])
    assert (ids.min(), ids.max()) >= (3, 3)
    assert ids.max() < 256


def test_prompt_files(tmp_path: Path) -> None:
    lines, jsonl = tmp_path / "p.txt", tmp_path / "p.jsonl"
    lines.write_text("one\n\ntwo words\n", encoding="utf-8")
    jsonl.write_text('{"prompt": "three"}\n', encoding="utf-8")
    assert parse_prompts("5, 7", ["zero"], lines) == (
        Prompt(5),
        Prompt(7),
        Prompt(text="zero"),
        Prompt(text="one"),
        Prompt(text="two words"),
    )
    assert parse_prompts(None, [], jsonl) == (Prompt(text="three"),)
    jsonl.write_text('{"text": "three"}\n', encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"is no \{"):
        parse_prompts(None, [], jsonl)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["/nowhere"], "There is no model at /nowhere"),
        ([Path(__file__)], "is no IR's .xml"),
        ([MODEL, "--variants", "on,fast"], "variants is 'on,fast'"),
        ([MODEL, "--variants", "on,on"], "each once"),
        ([MODEL, "--prompt-tokens", "ten"], "'ten' is no number of prompt tokens"),
        ([MODEL, "--prompt-tokens", ""], "'' is no number of prompt tokens"),
        ([MODEL, "--prompt-tokens", " ,"], "',' is no number of prompt tokens"),
        ([MODEL, "--max-error", "-1"], "max_error is -1, it must be at least 0."),
        ([MODEL, "--max-error", "nan"], "max_error is nan, it must be at least 0."),
        ([MODEL, "--plot", "plot.xyz"], "plot.xyz names no format of pictures: end it with one of ."),
        ([MODEL, "--prompt-file", "/nowhere"], "cannot be read: No such file"),
        ([MODEL, "-p", " "], "A prompt's text is empty"),
        ([MODEL, "--property", "X"], "'X' is no KEY=VALUE"),
        ([MODEL, "-ic", 0], "new_tokens is 0, it must be at least 1."),
        ([MODEL, "--max-tokens", 0], "max_tokens is 0"),
        ([MODEL, "--csv", "/no/such/folder/x.csv"], "/no/such/folder/x.csv cannot be written"),
        ([MODEL, "--json", MODEL], "is a folder: name a file in it"),
    ],
)
def test_refusals_are_one_sentence(arguments: list[object], says: str) -> None:
    done = bench(*arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith("ov-moe: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_weights_that_are_missing_or_locked_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openvino_model.xml").write_text("<net/>", encoding="utf-8")
    assert "openvino_model.bin is missing" in bench(tmp_path).stderr
    (tmp_path / "openvino_model.bin").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).suffix != ".bin")
    assert "openvino_model.bin may not be read by this user" in bench(tmp_path).stderr


def test_a_wrong_variable_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OV_MOE_GROUPS", "none")
    assert bench(MODEL).stderr == "ov-moe: OV_MOE_GROUPS is 'none', it must be a whole number.\n"


def test_a_plot_without_matplotlib_is_refused_before_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InvalidInputError, match="A plot needs matplotlib"):
        figures.check_matplotlib()
    assert "A plot needs matplotlib" in bench(MODEL, "--plot", tmp_path / "p.png").stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("found", "installed", "says"),
    [
        ([], [], "holds none: export the model with its tokenizer"),
        (["tokenizer.json"], [], "needs the package transformers, which is not installed"),
        (["openvino_tokenizer.xml"], ["transformers"], "needs the package openvino_tokenizers, which is not installed"),
        (["openvino_tokenizer.xml", "tokenizer.json"], [], "openvino_tokenizers or transformers"),
    ],
)
def test_a_missing_tokenizer_is_one_sentence(
    found: list[str], installed: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in found:
        (tmp_path / name).touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name in installed or None)
    with pytest.raises(InvalidInputError, match=says):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os.kill(os.getpid(), 11)", "'off' was ended by SIGSEGV: it said nothing."),
        ("import os; os.kill(os.getpid(), 9)", "was killed, most likely because memory ran out"),
        ("raise ValueError('odd')", "ended with status 1: ValueError: odd"),
    ],
)
def test_a_worker_that_dies_is_told(code: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _command, **rest: real([sys.executable, "-c", code], **rest))
    with pytest.raises(OvMoeError, match=says):
        turns.run_turns([JOB], tmp_path, False, lambda _: None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_one_sentence_and_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, typer\n"
        "from ov_moe.bench import command, turns\n"
        "class Slow(subprocess.Popen):\n"
        "    def __init__(self, command, **rest):\n"
        "        super().__init__([sys.executable, '-c', 'import time; time.sleep(60)'], **rest)\n"
        "    def communicate(self, input=None, timeout=None):\n"
        "        print(self.pid, flush=True)\n"
        "        return super().communicate(input, timeout)\n"
        "subprocess.Popen = Slow\n"
        "typer.run(command)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(MODEL), "-d", "CPU", "--csv", str(tmp_path / "x.csv")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    child = int(run.stdout.readline())
    run.send_signal(number)
    _, stderr = run.communicate(timeout=20)
    assert run.returncode == 128 + number
    assert stderr.splitlines()[-1] == "ov-moe: Interrupted: nothing was written."
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.parametrize("module", ["ov_moe.bench", "ov_moe.trace", "ov_moe.doctor", "ov_moe.options"])
def test_importing_does_not_import_openvino(module: str) -> None:
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('openvino', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
