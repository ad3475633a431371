"""Functions in a process of their own: what comes back, however the process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killing import processes_with

from ov_moe.children import call
from ov_moe.errors import InvalidInputError

HERE = "test_children"


def noisy(text: str, variable: str) -> dict[str, object]:
    """As a driver that prints on its own way."""
    print("before", flush=True)
    os.write(1, b"half a line")
    return {"text": text, "variable": os.environ[variable], "not a number": float("nan")}


def refusing() -> dict[str, object]:
    raise InvalidInputError("It is none.")


def broken() -> dict[str, object]:
    raise ValueError("odd\nvery odd")


def killed() -> dict[str, object]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def killed_behind_its_answer() -> dict[str, object]:
    import atexit

    atexit.register(killed)
    return {"all": "is said"}


def slow(mark: str) -> dict[str, object]:
    time.sleep(60)
    return {"mark": mark}


def holding(descriptor: str) -> dict[str, object]:
    os.fstat(int(descriptor))
    return {}


def test_what_is_printed_is_not_the_answer() -> None:
    ending = call(f"{HERE}:noisy", "zwölf ' \" \n", "OV_MOE_TEST", environment={"OV_MOE_TEST": "1"})
    assert ending.answer is not None
    assert str(ending.answer.pop("not a number")) == "nan"
    assert (ending.status, ending.answer) == (0, {"text": "zwölf ' \" \n", "variable": "1"})
    assert ending.said == "half a line"


@pytest.mark.parametrize(
    ("name", "status", "answer", "said"),
    [
        ("refusing", 0, {"error": "It is none."}, ""),
        ("broken", 1, None, "very odd"),
        ("missing", 1, None, f"AttributeError: module '{HERE}' has no attribute 'missing'"),
        ("killed", -signal.SIGSEGV, None, ""),
        ("killed_behind_its_answer", -signal.SIGSEGV, {"all": "is said"}, ""),
    ],
)
def test_how_a_child_ended_is_told(name: str, status: int, answer: dict[str, str] | None, said: str) -> None:
    ending = call(f"{HERE}:{name}")
    assert (ending.status, ending.answer, ending.said) == (status, answer, said)


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        call(f"{HERE}:slow", str(tmp_path), limit_s=0.2)
    assert not processes_with(str(tmp_path))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_of_who_watches_ends_the_child(error: type[BaseException], tmp_path: Path) -> None:
    def watch() -> None:
        assert processes_with(str(tmp_path))
        raise error

    with pytest.raises(error):
        call(f"{HERE}:slow", str(tmp_path), watch=watch)
    assert not processes_with(str(tmp_path))


@pytest.mark.skipif(os.name != "posix", reason="descriptors are inherited otherwise elsewhere")
def test_a_child_keeps_a_lock_open(tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    try:
        assert call(f"{HERE}:holding", str(lock), lock=lock).answer == {}
        assert call(f"{HERE}:holding", str(lock)).said == "OSError: [Errno 9] Bad file descriptor"
    finally:
        os.close(lock)


def test_the_packages_are_those_of_the_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json.py", "ov_moe.py", f"{HERE}.py"):
        (tmp_path / name).write_text("raise ImportError('of the current folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert call(f"{HERE}:refusing").answer == {"error": "It is none."}
