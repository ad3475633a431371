"""--force: only what ov-moe wrote, unchanged, is replaced, and nothing is lost on the way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ov_moe.errors import InvalidInputError, OutputError
from ov_moe.folder import swap
from ov_moe.folder.manifest import MANIFEST, read_manifest
from ov_moe.folder.write import check_replaceable, whole_folder
from ov_moe.storage import drafts

posix = pytest.mark.skipif(os.name != "posix", reason="needs links, pipes and permissions")


def write(out: Path, **contents: str) -> None:
    with whole_folder(out, check_replaceable(out, True)) as fresh:
        for name, text in contents.items():
            path = fresh.folder / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def state(root: Path) -> dict[str, tuple[int, str | bytes]]:
    """All below a folder: kinds, where links lead, contents."""
    found: dict[str, tuple[int, str | bytes]] = {}
    for path in sorted(root.rglob("*")):
        about = path.lstat()
        content: str | bytes = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[str(path.relative_to(root))] = about.st_mode, content
    return found


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output of ov-moe, and beside it a user's file."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").write_text("years of work")
    write(tmp_path / "out", a="a", sub__b="b", sub__c="c")
    return tmp_path / "out"


def test_what_was_written_is_replaced_whole(out: Path) -> None:
    entries = read_manifest(out)
    assert {name: entry.size for name, entry in entries.items()} == {"a": 1, "sub/b": 1, "sub/c": 1}
    assert entries["a"].sha256 == hashlib.sha256(b"a").hexdigest()
    (out / "sub" / "b").unlink()  # what is missing is no obstacle
    write(out, d="d")
    assert {path.name for path in out.iterdir()} == {"d", MANIFEST}
    assert {path.name for path in out.parent.iterdir()} == {"out", "thesis"}
    write(out)
    write(out, a="again")


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", a="a")
    assert (tmp_path / "out" / "a").read_text() == "a"


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file": (lambda out: (out / "notes.txt").write_text("mine"), "holds notes.txt, which ov-moe did not write"),
    "an empty file": (lambda out: (out / "sub" / "x").touch(), "holds sub/x, which"),
    "a hidden file": (lambda out: (out / ".env").write_text("key"), "holds .env, which"),
    "an empty folder": (lambda out: (out / "mine").mkdir(), "holds mine/, which"),
    "a model cache": (
        lambda out: [(out / "model_cache").mkdir(), (out / "model_cache" / "1.blob").write_text("compiled")],
        "holds model_cache/, which",
    ),
    "a kernel cache": (
        lambda out: [(out / "sub" / ".cl_cache").mkdir(), (out / "sub" / ".cl_cache" / "1").write_text("compiled")],
        "holds sub/.cl_cache/, which",
    ),
    "tokenizers": (
        lambda out: [(out / f"openvino_{name}.xml").write_text("<net/>") for name in "abcde"],
        "holds openvino_a.xml, openvino_b.xml, openvino_c.xml and 2 more, which",
    ),
    "a link": (lambda out: (out / "text").symlink_to(out.parent / "thesis" / "text"), "holds text, which"),
    "a link to a folder": (lambda out: (out / "t").symlink_to(out.parent / "thesis"), "holds t, which"),
    "a pipe": (lambda out: os.mkfifo(out / "pipe"), "holds pipe, which"),
    "the same length": (lambda out: (out / "a").write_text("A"), "holds a, changed since ov-moe wrote it"),
    "another length": (lambda out: (out / "sub" / "b").write_text("more"), "holds sub/b, changed since"),
    "a file made a link": (
        lambda out: [(out / "a").rename(out.parent / "thesis" / "a"), (out / "a").symlink_to("../thesis/a")],
        "holds a, which",
    ),
    "a folder made a link": (
        lambda out: [(out / "sub").rename(out.parent / "thesis" / "sub"), (out / "sub").symlink_to("../thesis/sub")],
        "holds sub, which",
    ),
    "a file made a folder": (lambda out: [(out / "a").unlink(), (out / "a").mkdir()], "holds a/, which"),
    "both": (
        lambda out: [(out / "x").touch(), (out / "a").write_text("A")],
        "holds x, which ov-moe did not write and a, changed since",
    ),
    "no manifest": (lambda out: (out / MANIFEST).unlink(), f"holds no {MANIFEST}, in which ov-moe lists"),
    "a mount point": (
        lambda out: None,
        "is where a disk is mounted",
    ),
}  # fmt: skip


@posix
@pytest.mark.parametrize("name", FOREIGN)
def test_what_ov_moe_did_not_write_stays(name: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, says = FOREIGN[name]
    change(out)
    if name == "a mount point":
        monkeypatch.setattr(os.path, "ismount", lambda path: path == out)
    before = state(out.parent)
    with pytest.raises(InvalidInputError) as refused:
        write(out, new="new")
    assert says in str(refused.value)
    assert str(refused.value).startswith(str(out))
    assert "\n" not in str(refused.value)
    assert state(out.parent) == before


def listing(**files: Any) -> str:
    return json.dumps({"schema": 1, "ov_moe": "0.1.0", "files": files})


GOOD = {"size": 1, "sha256": "0" * 64}
TEXT = {"size": 13, "sha256": hashlib.sha256(b"years of work").hexdigest()}
HOSTILE = {
    "no JSON": "{",
    "no text": b"\xff\xfe\x00",
    "nothing": "",
    "a list": "[]",
    "deep": "[" * 100_000,
    "a number of too many digits": "9" * 10_000,
    "another schema": json.dumps({"schema": 2, "ov_moe": "9.9", "files": {}}),
    "true for 1": json.dumps({"schema": True, "ov_moe": "0.1.0", "files": {}}),
    "one more key": json.dumps({"schema": 1, "ov_moe": "0.1.0", "files": {}, "more": 1}),
    "files in a list": json.dumps({"schema": 1, "ov_moe": "0.1.0", "files": ["a"]}),
    "twice": '{"schema": 1, "ov_moe": "0", "files": {"a": 1, "a": 2}}',
    "above": listing(**{"../thesis/text": TEXT}),
    "above, further down": listing(**{"sub/../../thesis/text": TEXT}),
    "absolute": listing(**{"/etc/passwd": GOOD}),
    "not plain": listing(**{"./a": GOOD}),
    "the folder": listing(**{".": GOOD}),
    "no name": listing(**{"": GOOD}),
    "a zero": listing(**{"a\0b": GOOD}),
    "itself": listing(**{MANIFEST: GOOD}),
    "a negative size": listing(a={**GOOD, "size": -1}),
    "half a size": listing(a={**GOOD, "size": 1.0}),
    "no digest": listing(a={"size": 1}),
    "a short digest": listing(a={**GOOD, "sha256": "00"}),
    "a digest in capitals": listing(a={**GOOD, "sha256": "A" * 64}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_manifest_that_is_not_one_serves_for_nothing(name: str, out: Path) -> None:
    content = HOSTILE[name]
    (out / MANIFEST).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = state(out.parent)
    with pytest.raises(InvalidInputError, match=f"{MANIFEST} is not as ov-moe writes it"):
        write(out, new="new")
    assert state(out.parent) == before


@posix
def test_a_manifest_behind_a_link_is_none(out: Path) -> None:
    (out / MANIFEST).rename(out.parent / "thesis" / "list")
    (out / MANIFEST).symlink_to("../thesis/list")
    before = state(out.parent)
    with pytest.raises((InvalidInputError, OSError)):
        write(out, new="new")
    assert state(out.parent) == before


SEEN = {"new file": {"a", "notes"}, "changed file": {"a"}, "gone": set()}


def write_while(out: Path, force: bool, change: Callable[[], object]) -> None:
    """Write a folder while something else is at work on its place."""
    with whole_folder(out, check_replaceable(out, force)) as fresh:
        (fresh.folder / "new").write_text("new")
        change()


@pytest.mark.parametrize("exchanged", [True, False])
@pytest.mark.parametrize("change", ["new file", "changed file", "gone"])
def test_what_changes_meanwhile_stays(change: str, exchanged: bool, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchanged:
        monkeypatch.setattr(swap, "exchange", lambda *_: False)
    changes = {
        "new file": lambda: (out / "notes").write_text("mine"),
        "changed file": lambda: (out / "a").write_text("A"),
        "gone": (out / "a").unlink,
    }
    with pytest.raises(OutputError, match="changed meanwhile, and stays"):
        write_while(out, True, changes[change])
    assert {name for name in state(out) if name in ("a", "notes")} == SEEN[change]
    assert change != "changed file" or (out / "a").read_text() == "A"
    assert {path.name for path in out.parent.iterdir()} == {"out", "thesis"}


def test_an_interruption_behind_the_swap_says_what_stands(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", interrupt)
    with pytest.raises(OutputError, match="out is written; the next run removes"):
        write(out, new="new")
    monkeypatch.setattr(os, "unlink", unlink)
    assert (out / "new").read_text() == "new"
    swap.recover(out.parent)
    write(out, new="newer")
    assert {path.name for path in out.parent.iterdir()} == {"out", "thesis"}


def test_where_files_cannot_be_locked_all_works_and_no_draft_is_removed(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    left = left_behind(out, new__half="half")
    monkeypatch.setattr(drafts, "fcntl", None)
    monkeypatch.delattr(os, "geteuid")
    write(out, new="new")
    assert (out / "new").read_text() == "new"
    assert {path.name for path in out.parent.iterdir()} == {"out", "thesis", left.name}


def test_what_appears_meanwhile_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="appeared meanwhile, and stays"):
        write_while(out, False, lambda: [out.mkdir(), (out / "notes").write_text("mine")])
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert (out / "notes").read_text() == "mine"


HOLD = """
import sys
from pathlib import Path
from ov_moe.storage.drafts import draft
with draft(Path(sys.argv[1])) as made:
    made.new.mkdir(); (made.new / "half").write_text("half")
    print(made.folder, flush=True)
    sys.stdin.read()
"""


@posix
def test_a_draft_goes_when_its_process_is_gone_and_not_before(out: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        held = Path(holder.stdout.readline().strip())
        write(out, new="new")
        assert (held / "new" / "half").read_text() == "half"
        holder.kill()
    write(out, new="newer")
    assert {path.name for path in out.parent.iterdir()} == {"out", "thesis"}


def left_behind(out: Path, **inside: str) -> Path:
    """A draft as a killed run leaves it."""
    folder = out.with_name(f".{out.name}.0123456789abcdef.ov-moe")
    folder.mkdir(mode=0o700)
    (folder / "lock").touch()
    for name, text in inside.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


@posix
def test_an_output_that_was_moved_aside_comes_back(out: Path) -> None:
    before = state(out)
    folder = left_behind(out, new__half="half")
    out.rename(folder / "old")
    swap.recover(out.parent)
    assert state(out) == before
    write(out, new="new")
    assert {path.name for path in out.parent.iterdir()} == {"out", "thesis"}


@posix
def test_an_output_that_was_replaced_goes(out: Path) -> None:
    folder = left_behind(out)
    shutil.copytree(out, folder / "old")
    (folder / "old" / "a").unlink()  # killed while it was removed
    swap.recover(out.parent)
    write(out, new="new")
    assert {path.name for path in out.parent.iterdir()} == {"out", "thesis"}


@posix
def test_a_users_file_in_what_was_moved_aside_stays(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = left_behind(out, old__notes="mine")
    swap.recover(out.parent)
    write(out, new="new")
    assert (folder / "old" / "notes").read_text() == "mine"
    assert f"{folder} was left by a run that was killed, and stays" in caplog.text


@posix
@pytest.mark.parametrize("unlike", ["name", "mode", "no lock", "a link"])
def test_a_folder_that_only_looks_like_a_draft_stays(unlike: str, out: Path) -> None:
    folder = left_behind(out, notes="mine")
    if unlike == "name":
        folder = folder.rename(out.parent / ".out.0123456789abcdeg.ov-moe")
    elif unlike == "mode":
        folder.chmod(0o755)
    elif unlike == "no lock":
        (folder / "lock").unlink()
    else:
        folder.rename(out.parent / "real")
        folder.symlink_to("real")
    write(out, new="new")
    assert (folder / "notes").read_text() == "mine"
