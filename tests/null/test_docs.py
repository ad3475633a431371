"""docs/architectures.md says the truth about the tests: those it names exist, and every export and reason is theirs."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

from exported import BLOCKS
from typer.testing import CliRunner

from ov_moe.kernel_bench import app
from ov_moe.kernel_bench.schedules import MICRO_KERNELS
from ov_moe.kernels.config import KernelConfig

ROOT = Path(__file__).parents[2]
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
LEFT_ALONE = re.findall(r'^\|[^|]*\| "([^"]+)" \| `(tests/[\w/]+\.py)::\w+` \|$', PAGE, re.MULTILINE)


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def test_the_tests_that_are_named_exist() -> None:
    assert len(NAMED) > 10
    assert [f"{file}::{test}" for file, test in NAMED if test not in functions(ROOT / file)] == []


def test_the_files_that_are_named_exist() -> None:
    files = set(re.findall(r"`((?:ov_moe|tests|transformations|scripts)/[\w/]+\.py)(?:::\w+)?`", PAGE))
    assert len(files) > 10
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_the_table_of_exports_is_that_of_the_tests() -> None:
    assert sorted(re.findall(r"`((?:tf457-)?[a-z0-9]+-e\d+-[\w-]+)`", PAGE)) == sorted(BLOCKS)


def test_every_reason_is_shown_by_its_test() -> None:
    """In the text of the test's file, or of the table of near misses that it takes."""
    assert PAGE.count('| "') == len(LEFT_ALONE) > 10
    tables = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "ov_moe" / "testing").glob("misses_*.py"))
    missing = [words for words, file in LEFT_ALONE if words not in tables + (ROOT / file).read_text(encoding="utf-8")]
    assert missing == []


def test_every_field_that_set_takes_is_named() -> None:
    (text,) = re.findall(r"^`--set NAME=VALUE` replaces.*?\n\n", PERFORMANCE, re.DOTALL | re.MULTILINE)
    known = {field.name for field in fields(KernelConfig)} - {"schedule", "fetch", "micro"}
    assert set(re.findall(r"`([a-z_]+)`", text)) == {*known, "micro_kernel"}


def test_the_list_of_micro_kernels_follows_from_their_table() -> None:
    assert "`ov-moe kernels bench --list` prints the table of micro-kernels" in PERFORMANCE
    listed = CliRunner().invoke(app, ["--list"]).output.split("micro-kernels: ")[1].splitlines()[1:]
    for row, kind in zip(listed, MICRO_KERNELS.values(), strict=True):
        assert row.split()[0] == kind.name
        assert row.split("; ")[-2:] == [", ".join(kind.words) or "no word", ", ".join(f.name for f in fields(kind))]
        assert kind.workload in row


def test_the_readmes_layout_names_every_folder_of_the_package() -> None:
    folders = {path.parent.name for path in (ROOT / "ov_moe").glob("*/__init__.py")} - {"cl", "transformations"}
    assert len(folders) > 8
    assert sorted(name for name in folders if f" {name}/ " not in README) == []


def test_extras_are_installed_in_one_form() -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in [*ROOT.glob("docs/*.md"), ROOT / "README.md"]}
    assert [path.name for path, text in pages.items() if "ov-moe[" in text] == []
