"""The commands in README.md and docs/ are what the command line and the scripts understand.

tests/pipelines/test_command_docs.py runs those of the command line.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
import typer
from docs_commands import PAGES, ROOT, commands

from ov_moe.cli import app

OURS = [line for page in PAGES for line in commands(page, "ov-moe ")]
SCRIPTS = [line for page in PAGES for line in commands(page, "python scripts/")]


def test_there_are_commands() -> None:
    assert len(OURS) > 12
    assert len(SCRIPTS) >= 2


@pytest.mark.parametrize("line", OURS)
def test_the_command_line_takes_it(line: str) -> None:
    _, *words = shlex.split(re.sub(r"[\[\]]", "", line))
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)  # raises UsageError


@pytest.mark.parametrize("line", SCRIPTS)
def test_the_script_has_the_options(line: str) -> None:
    _, script, *words = shlex.split(line)
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [word for word in words if word.startswith("--") and word not in done.stdout] == []
