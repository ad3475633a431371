"""Commands killed by SIGKILL at moments spread over their run: what is left is the old state or the new.

``--kills 50`` kills each that often; ``make kills`` does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from killing import at_moments, leftovers, processes_with, spread, wait_for

from ov_moe.demo import MODEL
from ov_moe.folder.ours import check_ours
from ov_moe.trace.recording import load

COMMAND = Path(sys.executable).with_name("ov-moe")
EVERY_STEP = Path(__file__).parents[1] / "null"
TINY = ("--device", "CPU", "--prompt-tokens", "4")
BENCH = ("--variants", "off", "--new-tokens", "2", "-n", "1", "--warm-up", "0", "--rounds", "1", "--no-proof")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--kills"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Temporary files of their own, so that none of them is overlooked."""
    (tmp_path / "temporary").mkdir()
    return {**os.environ, "TMPDIR": str(tmp_path / "temporary")}


def seconds(command: Sequence[str | Path], environment: dict[str, str]) -> float:
    """How long it takes, left alone; it must succeed."""
    start = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - start


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_optimize(kills: int, tmp_path: Path, rng: np.random.Generator, environment: dict[str, str]) -> None:
    """Every run replaces what the one before left, by a model for another number of tokens."""
    place = tmp_path / "outputs"
    out = place / "out"
    commands = [[COMMAND, "optimize", MODEL, out, "--force", "--max-tokens", number] for number in ("16", "32")]
    states = []
    for command in commands:
        longest = seconds(command, environment)
        states.append(files(out))
    assert states[0] != states[1]
    killed = 0
    for number, moment in enumerate(spread(kills, longest, rng)):
        before = files(out)
        killed += sum(at_moments(commands[number % 2], [moment], env=environment))
        assert files(out) in (before, states[number % 2])
        check_ours(out)
        assert len(leftovers(place)) <= 1
        assert {path.name for path in place.iterdir() if path not in leftovers(place)} == {"out"}
        assert wait_for(lambda: not processes_with(str(out)))
    assert killed >= kills // 2
    seconds(commands[0], environment)
    assert files(out) == states[0]
    assert [path.name for path in place.iterdir()] == ["out"]


def outputs_survive(
    command: Sequence[str | Path],
    names: Sequence[Path],
    look: Callable[[], None],
    kills: int,
    rng: np.random.Generator,
    environment: dict[str, str],
) -> None:
    """A command's files are as before, or whole; nothing that it started lives on, and no temporary file stays."""
    temporary = Path(environment["TMPDIR"])
    longest = seconds(command, environment)
    look()
    killed = 0
    for moment in spread(kills, longest, rng):
        for name in names:
            name.write_text("old")
        killed += sum(at_moments(command, [moment], env=environment))
        new = [name for name in names if name.read_text() != "old"]
        if len(new) == len(names):
            look()
        for name in new:
            if name.suffix == ".json":
                json.loads(name.read_text())
            assert name.read_text().endswith("\n")
        assert {path.name for path in names[0].parent.iterdir() if path.is_file()} == {name.name for name in names}
        assert len(leftovers(names[0].parent)) <= len(names)
        assert len(leftovers(temporary)) <= 1
        assert wait_for(lambda: not processes_with(str(temporary)))
    assert killed >= kills // 2
    seconds(command, environment)
    look()
    assert not leftovers(names[0].parent)
    assert not list(temporary.iterdir())


def test_bench(kills: int, tmp_path: Path, rng: np.random.Generator, environment: dict[str, str]) -> None:
    names = tmp_path / "outputs" / "b.json", tmp_path / "outputs" / "b.csv"
    names[0].parent.mkdir()

    def look() -> None:
        assert json.loads(names[0].read_text())
        assert len(names[1].read_text().splitlines()) == 2

    command = [COMMAND, "bench", MODEL, *TINY, *BENCH, "--json", names[0], "--csv", names[1]]
    outputs_survive(command, names, look, kills, rng, environment)


def test_trace(kills: int, tmp_path: Path, rng: np.random.Generator, environment: dict[str, str]) -> None:
    names = tmp_path / "outputs" / "t.csv", tmp_path / "outputs" / "t.json"
    names[0].parent.mkdir()

    def look() -> None:
        assert len(load(names[0]).prefills) == 1

    outputs_survive([COMMAND, "trace", "record", MODEL, "-o", names[0], *TINY], names, look, kills, rng, environment)


def test_layer_files(kills: int, tmp_path: Path, rng: np.random.Generator) -> None:
    """Killed while it spoils and writes a layer folder again and again."""
    sys.path.insert(0, str(EVERY_STEP))
    from kill_every_step import layer_files

    root = tmp_path / "root"
    root.mkdir()
    _, write, check = layer_files(root)
    code = (
        f"import sys; sys.path[:] = {[str(EVERY_STEP), *sys.path]!r}\n"
        "from pathlib import Path; from kill_every_step import layer_files\n"
        f"spoil, write, _ = layer_files(Path({str(root)!r})); spoil(); print('ready', flush=True)\n"
        "while True: spoil(); write()"
    )
    for moment in spread(kills, 0.3, rng):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
            time.sleep(moment)
            child.send_signal(signal.SIGKILL)
        check(False)
        write()
        check(True)
