"""Recordings without a model: figures of imbalance, files, simulated schedules, pictures."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ov_moe.demo import MODEL
from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench.recorded import read_table
from ov_moe.trace import app, plots, simulate
from ov_moe.trace.imbalance import imbalance, over_prefills
from ov_moe.trace.recording import Layer, Recording, load

RECORD = ("record", MODEL, "-d", "CPU", "--prompt-tokens", 5)
PNG = b"\x89PNG"


def trace(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def recording(rng: np.random.Generator) -> Recording:
    """3 layers, 6 experts, 2 prefills."""
    prefills = tuple(rng.integers(0, 50, (3, 6)) for _ in range(2))
    layers = tuple(Layer(f"layers.{i}", 2, 64, 96) for i in range(3))
    return Recording(layers, prefills, rng.integers(0, 9, (3, 6)), (11, 12), {"model": "some model"})


def test_imbalance_by_hand() -> None:
    found = imbalance(np.array([0, 4, 0, 12]), 8)
    assert (found.max_over_mean, found.empty) == (3.0, 2.0)
    # All pairs' differences over 2 n^2 mean: (4*4 + 12*4 + 8*2) / (2 * 16 * 4).
    assert found.gini == pytest.approx((2 * (2 * 4 + 2 * 12 + 8)) / (2 * 16 * 4))
    assert found.padded == pytest.approx((8 + 16 - 16) / 24)


def test_gini_is_that_of_all_pairs(rng: np.random.Generator) -> None:
    counts = rng.integers(0, 100, 37)
    pairs = np.abs(counts[:, None] - counts[None, :]).sum()
    assert imbalance(counts, 32).gini == pytest.approx(pairs / (2 * counts.size * counts.sum()))


def test_balanced_rows_and_no_rows() -> None:
    even = imbalance(np.full(8, 32), 32)
    assert (even.max_over_mean, even.gini, even.empty, even.padded) == (1.0, 0.0, 0.0, 0.0)
    assert imbalance(np.zeros(8, np.int64), 32).empty == 8


def test_prefills_are_judged_one_by_one() -> None:
    """Added up, two opposite prefills would look balanced."""
    prefills = [np.array([[8, 0]]), np.array([[0, 8]])]
    assert over_prefills(prefills, 0, 8).max_over_mean == 2.0


def test_the_csv_is_what_the_kernel_benchmark_reads(recording: Recording, tmp_path: Path) -> None:
    recording.save(tmp_path / "x.csv")
    table = read_table(str(tmp_path / "x.csv"))
    assert list(table) == ["0", "1", "2"]
    first, second = recording.prefills
    np.testing.assert_array_equal(np.stack(list(table.values())), first + second)


def test_a_recording_survives_its_files(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    recording.save(path)
    again = load(path)
    assert again.to_json() == recording.to_json()
    (tmp_path / "x.json").unlink()
    np.testing.assert_array_equal(load(path).prefills, [recording.total])


def test_files_that_do_not_belong_together_are_refused(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    recording.save(path)
    path.write_text(path.read_text(encoding="utf-8").replace("\n1,", "\n1,9"), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="does not belong to"):
        load(path)
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="is not what ov-moe trace writes"):
        load(path)


def test_a_pool_is_as_fast_as_its_tiles_allow(rng: np.random.Generator) -> None:
    counts = rng.integers(0, 300, 40)
    tasks = int((-(-counts // 32)).sum()) * 3
    found = simulate.pool(counts, 7, 32, 3)
    assert found.end == -(-tasks // 7)
    assert found.busy == pytest.approx(tasks / (7 * found.end))
    assert np.bincount(found.expert, minlength=40).tolist() == (-(-counts // 32) * 3).tolist()


def test_a_grid_whose_early_exits_are_free_is_a_pool(rng: np.random.Generator) -> None:
    counts = rng.integers(0, 300, 40)
    pool, grid = simulate.pool(counts, 7, 32, 3), simulate.grid(counts, 7, 32, 3, 300, 0.0)
    assert grid.end == pool.end
    assert (grid.expert >= 0).sum() == pool.expert.size


def test_early_exits_cost_the_grid_their_time() -> None:
    """2 experts x 10 row tiles x 4 blocks on one place; 3 of the 20 row tiles hold rows."""
    found = simulate.grid(np.array([64, 1]), 1, 32, 4, 320, 0.5)
    assert found.end == 3 * 4 + 0.5 * 17 * 4


def test_early_exits_are_spread_over_the_places_and_none_is_lost() -> None:
    found = simulate.grid(np.array([64, 1]), 3, 32, 4, 320, 0.5)
    assert found.length[found.expert < 0].sum() == 0.5 * 17 * 4


def test_places_do_one_thing_at_a_time(rng: np.random.Generator) -> None:
    found = simulate.grid(rng.integers(0, 200, 16), 5, 32, 2, 200, 0.1)
    for place in range(5):
        mine = np.argsort(found.start[found.place == place])
        start, length = found.start[found.place == place][mine], found.length[found.place == place][mine]
        assert (start[1:] >= (start + length)[:-1] - 1e-9).all()


def test_no_row_at_all_has_a_timeline() -> None:
    none = np.zeros(4, np.int64)
    assert (simulate.pool(none, 3, 32, 2).end, simulate.pool(none, 3, 32, 2).busy) == (0.0, 1.0)


def test_pictures_are_of_the_format_that_is_asked_for(recording: Recording) -> None:
    pytest.importorskip("matplotlib")
    counts = recording.prefills[0][0]
    both = [simulate.grid(counts, 4, 8, 2, 64, 0.05), simulate.pool(counts, 4, 8, 2)]
    assert plots.heat_map(recording, "png").startswith(PNG)
    assert plots.timelines(both, "a layer", "pdf").startswith(b"%PDF")


def test_show_prints_and_draws(recording: Recording, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "x.csv"
    recording.save(path)
    pictures = tmp_path / "h.png", tmp_path / "t.png"
    done = trace("show", path, "--tile", 8, "--heat-map", pictures[0], "--timeline", pictures[1])
    assert done.exit_code == 0, done.output
    assert "some model: 2 prefills, 6 experts" in done.stdout
    assert "Simulated (no measurement): layer" in done.stdout
    assert all(picture.read_bytes().startswith(PNG) for picture in pictures)
    expected = over_prefills(recording.prefills, 1, 8)
    (row,) = re.findall(r"│ +1 │.*layers\.1", done.stdout)
    assert f"{expected.max_over_mean:.2f}" in row
    assert f"{expected.padded:.0%}" in row


def test_a_table_of_another_source_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write("# a comment\n")
        csv.writer(file).writerows([["layer", "expert_0", "expert_1"], [3, 10, 30]])
    done = trace("show", path)
    assert done.exit_code == 0, done.output
    assert "1.50" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "/nowhere.csv"), "cannot be read"),
        (("show", Path(__file__)), "must have a header"),
        (("record", "/nowhere", "-o", "/tmp/x.csv"), "There is no model at /nowhere"),
        ((*RECORD, "-o", "/nowhere/x.csv"), "/nowhere/x.csv cannot be written"),
        ((*RECORD, "-o", "x.json"), "x.json is where the JSON beside the CSV goes: give the CSV another name."),
        ((*RECORD, "-o", "x.csv", "--heat-map", "h.foo"), "h.foo names no format of pictures"),
        (("show", "x.csv", "--timeline", "t.foo"), "t.foo names no format of pictures"),
    ],
)
def test_refusals_are_one_sentence(
    arguments: tuple[object, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = trace(*arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith("ov-moe: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_recordings_json_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").mkdir()
    assert "x.json is a folder" in trace(*RECORD, "-o", tmp_path / "x.csv").stderr


def test_one_is_not_spoken_of_as_many() -> None:
    assert (plots.counted(1, "prefill"), plots.counted(0, "prefill")) == ("1 prefill", "0 prefills")


def test_a_layer_that_is_not_there_is_refused(recording: Recording, tmp_path: Path) -> None:
    recording.save(tmp_path / "x.csv")
    assert (
        "layer is 3, it must be a whole number from 0 to 2." in trace("show", tmp_path / "x.csv", "--layer", 3).stderr
    )
