"""A traced model counts what its router chose, on both plugins; the model itself stays as it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from typer.testing import CliRunner

import ov_moe
from ov_moe.commands.prompts import Prompt, random_ids
from ov_moe.demo import MODEL
from ov_moe.errors import InvalidInputError
from ov_moe.generate import Session
from ov_moe.options import Config
from ov_moe.trace import app
from ov_moe.trace.record import record
from ov_moe.trace.recording import Counts, load
from ov_moe.trace.taps import count_rows, tapped

PATH = MODEL / "openvino_model.xml"
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
# One prompt takes the path for few tokens, one a chunk, one three of them.
LENGTHS = (7, 20, 41)
CONFIG = Config(few_tokens=8, max_tokens=16)
EXPERTS = 64


class Router(Session):
    """The unfused model on the CPU plugin, with the indices of its TopK as outputs."""

    def counts(self) -> Counts:
        ids = [np.asarray(self._request.get_tensor(f"topk.{layer}").data, np.int64) for layer in range(2)]
        return np.stack([np.bincount(each.ravel(), minlength=EXPERTS) for each in ids])


@pytest.fixture(scope="module")
def expected() -> list[Counts]:
    """Rows of each expert in each prefill, from the unfused model's own router."""
    core = ov.Core()
    model = core.read_model(PATH)
    routers = [node for node in model.get_ordered_ops() if node.get_type_name() == "TopK"]
    assert len(routers) == 2
    for layer, node in enumerate(routers):
        result = ov.opset13.result(node.output(1))
        result.get_output_tensor(0).add_names({f"topk.{layer}"})
        model.add_results([result])
    session = Router(core.compile_model(model, "CPU", EXACT))
    found = []
    for length in LENGTHS:
        session.reset()
        session.step(random_ids(length, 1, 256, 5))
        found.append(session.counts())
    return found


@pytest.mark.parametrize("device", ["GPU", "CPU"])
def test_a_trace_is_what_the_unfused_router_chose(
    device: str, expected: list[Counts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OV_MOE_EVALUATE", "numpy")
    prompts = [Prompt(tokens=length) for length in LENGTHS]
    found, stop = record(PATH, device, prompts, CONFIG, EXACT, new_tokens=2, seed=5)
    assert stop is None
    assert found.tokens == LENGTHS
    for prefill, counts in zip(found.prefills, expected, strict=True):
        np.testing.assert_array_equal(prefill, counts)
    assert found.decode.sum(axis=1).tolist() == [8 * 2 * len(LENGTHS)] * 2
    assert [(layer.top_k, layer.hidden, layer.intermediate) for layer in found.layers] == [(8, 128, 64)] * 2
    assert all(f"layers.{index}." in layer.name for index, layer in enumerate(found.layers))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_prompts_that_were_complete_are_written(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    words = ["trace", "record", str(MODEL), "-d", "CPU", "--prompt-tokens", ",".join(["7"] * 500), "--new-tokens", "3"]
    with subprocess.Popen(
        [sys.executable, "-m", "ov_moe.cli", *words, "-o", str(path)],
        env={**os.environ, "OV_MOE_EVALUATE": "numpy"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stderr is not None
        while not (line := command.stderr.readline()).startswith("3 of 500: "):
            assert line, "it ended before"
        command.send_signal(number)
        _, errors = command.communicate(timeout=120)
    assert command.returncode == 128 + number, errors
    found = load(path)
    count = len(found.prefills)
    assert 2 <= count < 500
    assert errors.splitlines()[-1] == (
        f"ov-moe: Interrupted. Shown and written is what was complete: {count} of 500 prompts."
    )
    assert (found.facts["complete"], found.facts["stopped"]) == (False, "Interrupted.")
    assert (len(found.tokens), len(found.facts["prompts"])) == (count, count)
    assert found.decode.sum(axis=1).tolist() == [8 * 3 * count] * 2


def test_padding_counts_for_no_expert() -> None:
    assert count_rows(np.array([[0, 2], [-1, 2], [-2, -2]]), 4).tolist() == [1, 0, 2, 0]


def test_tracing_leaves_the_model_as_it_is() -> None:
    model = ov.Core().read_model(PATH)
    ov_moe.optimize(model)
    before = [node.get_friendly_name() for node in model.get_ordered_ops()]
    outputs = len(model.outputs)
    taps = tapped(model)
    assert [node.get_friendly_name() for node in model.get_ordered_ops()] == before
    assert len(model.outputs) == outputs
    assert len(taps.model.outputs) == outputs + 2
    # Nothing but results is added, to values that the blocks read anyway.
    added = [node for node in taps.model.get_ordered_ops() if node.get_friendly_name() not in before]
    assert {node.get_type_name() for node in added} == {"Result"}


def test_a_model_without_blocks_is_refused() -> None:
    x = ov.opset13.parameter([-1, 4], ov.Type.f32)
    with pytest.raises(InvalidInputError, match="holds no ov-moe operation"):
        tapped(ov.Model([ov.opset13.relu(x)], [x]))


def test_the_command_writes_a_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OV_MOE_EVALUATE", "numpy")
    path = tmp_path / "x.csv"
    words = ["record", str(MODEL), "-d", "CPU", "--prompt-tokens", "7,20", "--seed", "5", "-o", str(path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "record texts as well" in done.stdout
    assert f"Written: {path.with_suffix('.json')}, {path}\n" in done.stdout
    assert {each.name for each in tmp_path.iterdir()} == {"x.csv", "x.json"}
    assert load(path).total.sum(axis=1).tolist() == [8 * 27] * 2


def test_a_layer_that_the_model_lacks_is_refused_before_anything_runs(tmp_path: Path) -> None:
    words = ["record", str(MODEL), "-d", "CPU", "--prompt-tokens", "7", "-o", str(tmp_path / "x.csv"), "--layer", "99"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stderr) == (1, "ov-moe: layer is 99, it must be a whole number from 0 to 1.\n")
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_run_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["record", str(MODEL), "-d", "CPU", "-o", str(tmp_path / "x.csv")])
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "There is nothing to run" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--property", "FOO=1"], "OpenVINO cannot compile the model for CPU: NotFound: Unsupported property FOO"),
        (["--property", "INFERENCE_PRECISION_HINT=foo"], "Wrong value foo for property key INFERENCE_PRECISION_HINT"),
    ],
)
def test_a_property_that_openvino_refuses(words: list[str], says: str, tmp_path: Path) -> None:
    output = tmp_path / "x.csv"
    done = CliRunner().invoke(
        app, ["record", str(MODEL), "-d", "CPU", "--prompt-tokens", "7", "-o", str(output), *words]
    )
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert says in done.stderr
    assert not output.exists()


def test_what_is_no_ir_reaches_no_other_reader(tmp_path: Path) -> None:
    """In a process of its own: those readers write to the process's stderr, past Python's."""
    path = tmp_path / "model.xml"
    path.write_text("garbage", encoding="utf-8")
    path.with_suffix(".bin").touch()
    words = ["trace", "record", str(path), "-d", "CPU", "--prompt-tokens", "7", "-o", str(tmp_path / "x.csv")]
    command = [sys.executable, "-m", "ov_moe.cli", *words]
    # Without what this process set for its own virtual GPU.
    inherited = ("OV_MOE_VIRTUAL_GPU",)
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"ov-moe: {path} is broken XML (syntax error: line 1, column 0): export it again, or copy both files again.\n"
    )
