"""The commands in README.md and docs/ are what the command line and the scripts understand."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ov_moe.cli import app

ROOT = Path(__file__).parents[2]
FILES = [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"]


def commands(start: str) -> list[str]:
    """Lines of fenced blocks that begin with ``start``, continued lines joined, comments and placeholders left out."""
    found = []
    for path in FILES:
        fenced = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        for _, block in filter(lambda pair: not pair[0], fenced):
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                words = re.split(r"\s{2,}#|\s#\s", line)[0].replace("...", "").strip()
                found += [words] if words.startswith(start) else []
    return found


OURS = commands("ov-moe ")
SCRIPTS = commands("python scripts/")


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
