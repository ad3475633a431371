"""How long a function may be, and how many things it may be told one by one."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES = 50
# Beyond these the arguments are a record: see ov_moe/commands/options_record.py.
ARGUMENTS = 10
# What is told more, until it is taken apart.
TOO_MANY = {"ov_moe/testing/graphs.py: moe_block_model", "ov_moe/testing/unrolled.py: unrolled_model"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(text: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(text)) if isinstance(node, Function))


def lines(function: Function) -> int:
    """From its ``def`` to its end, the docstring included."""
    return (function.end_lineno or 0) - function.lineno + 1


def arguments(function: Function) -> int:
    told = function.args
    return len([each for each in (*told.posonlyargs, *told.args, *told.kwonlyargs) if each.arg != "self"])


@functools.cache
def everywhere() -> list[tuple[str, Function]]:
    folders = [ROOT / name for name in ("ov_moe", "transformations", "scripts")]
    files = sorted({path.resolve() for folder in folders for path in folder.rglob("*.py")})
    return [
        (f"{path.relative_to(ROOT).as_posix()}: {function.name}", function)
        for path in files
        for function in functions(path.read_text(encoding="utf-8"))
    ]


def test_no_function_is_longer_than_fifty_lines() -> None:
    assert {name for name, function in everywhere() if lines(function) > LINES} == set()


def test_no_function_is_told_more_than_ten_things_one_by_one() -> None:
    assert {name for name, function in everywhere() if arguments(function) > ARGUMENTS} - TOO_MANY == set()


@pytest.mark.parametrize(("body", "long"), [(LINES - 1, False), (LINES, True)])
def test_what_counts_as_long(body: int, long: bool) -> None:
    (function,) = functions("@decorator\nclass A:\n  def f(self, a, *, b):\n" + "    pass\n" * body)
    assert (lines(function) > LINES, arguments(function)) == (long, 2)
