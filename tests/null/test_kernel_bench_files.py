"""What the benchmark writes, and that it starts without openvino and without torch."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from ov_moe.errors import InvalidInputError, OutputError
from ov_moe.kernel_bench import records
from ov_moe.kernel_bench.cost import Limits
from ov_moe.kernel_bench.plot import write_plot
from ov_moe.kernel_bench.records import Row

ROOT = Path(__file__).parents[2]


def row(**changes: object) -> Row:
    values: dict[str, object] = {field.name: None for field in fields(Row)}
    values.update(
        shape="s", precision="u4", stage="layer", distribution="uniform", schedule="grid", baseline="grid", tokens=16
    )
    values.update(ok=True, ratio=1.0, **changes)
    return Row(**values)  # type: ignore[arg-type]


def test_files_hold_every_field_and_the_device(tmp_path: Path) -> None:
    device = {"name": "D", "driver": "1", "platform_version": "P"}
    head = records.header(device, Limits(1.0, 2.0, "fma"), 256)
    rows = [row(error=float("nan"), why="a, b"), row(error=0.5, why="")]
    records.write_json(tmp_path / "a.json", head, rows)
    records.write_csv(tmp_path / "a.csv", head, rows)
    found = json.loads((tmp_path / "a.json").read_text())
    assert list(found) == ["schema", "complete", "date", "device", "ov_moe", "commit", "limits", "flush_bytes", "rows"]
    assert found["schema"] == 1
    assert found["limits"] == {"flops": 1.0, "bandwidth": 2.0, "arithmetic": "fma"}
    names = [field.name for field in fields(Row)]
    assert [list(entry) for entry in found["rows"]] == [names, names]
    assert [entry["error"] for entry in found["rows"]] == [None, 0.5]
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    shared = ["device", "driver", "platform_version", "ov_moe", "commit", "date", "schema", "complete"]
    assert list(lines[0]) == names + shared
    assert (lines[0]["why"], lines[0]["error"], lines[1]["device"]) == ("a, b", "", "D")


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    head = records.header({"name": "D", "driver": "1", "platform_version": "P"}, None, 1)
    for write in (records.write_json, records.write_csv):
        with pytest.raises(OutputError, match="could not be written: No such file"):
            write(tmp_path / "no" / "folder", head, [])


def test_plot_draws_a_panel_for_each_distribution(tmp_path: Path) -> None:
    rows = [
        row(tokens=tokens, distribution=distribution, schedule=schedule, ms=tokens * 0.1)
        for tokens in (16, 64)
        for distribution in ("uniform", "hot")
        for schedule in ("grid", "pool-ticket")
    ]
    write_plot(tmp_path / "a.svg", rows, "a device")
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn.count('<g id="axes_') == 2
    with pytest.raises(InvalidInputError, match=r"a\.nonsense names no format of pictures: end it with one of .*\.png"):
        write_plot(tmp_path / "a.nonsense", rows, "a device")
    with pytest.raises(InvalidInputError, match="is not drawn: no row was timed"):
        write_plot(tmp_path / "a.svg", [row(ms=None) for _ in range(0)], "a device")


def test_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InvalidInputError, match=r"A plot needs matplotlib .*`pip install matplotlib`"):
        write_plot(tmp_path / "a.svg", [row()], "a device")


def test_the_benchmark_needs_no_openvino() -> None:
    code = "import sys; sys.modules['openvino'] = None; from ov_moe.kernel_bench import app; app(['--list'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "qwen3-30b" in done.stdout
    assert "pool-ticket-walk" in done.stdout


def test_comparing_without_cuda_says_what_is_missing() -> None:
    script = ROOT / "scripts" / "compare_torch.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("compare_torch: torch")
    assert len(done.stderr.splitlines()) == 1
