"""Code is loaded only from where nobody else could have put it, and layer files only with the right content."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from places import NOBODY, as_nobody

from ov_moe.errors import DeviceError, OutputError
from ov_moe.storage.kept import kept
from ov_moe.storage.places import places
from ov_moe.storage.trust import distrust

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs owners and permissions")
root_only = pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="giving files away needs root")
CONTENT = {"a.cl": b"kernel", "layers.xml": b"<CustomLayer/>"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """<tmp_path>/cache/code with a file in it, safe at first."""
    code = tmp_path / "cache" / "code"
    code.mkdir(parents=True)
    (code / "lib.so").write_bytes(b"library")
    for path, mode in ((tmp_path, 0o755), (code.parent, 0o755), (code, 0o755), (code / "lib.so", 0o644)):
        path.chmod(mode)
    return code


OPEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "the file": (lambda code: (code / "lib.so").chmod(0o646), "code/lib.so can be written by", "chmod go-w"),
    "its folder": (lambda code: code.chmod(0o757), "code can be written by", "chmod go-w"),
    "its folder, sticky": (lambda code: code.chmod(0o1777), "code can be written by", "chmod go-w"),
    "a folder above": (lambda code: code.parent.chmod(0o777), "cache can be written by", "+t, as /tmp has it"),
}


@pytest.mark.parametrize("name", OPEN)
def test_what_others_can_write_is_refused(name: str, folder: Path) -> None:
    assert distrust(folder / "lib.so") is None
    change, says, advice = OPEN[name]
    change(folder)
    reason = distrust(folder / "lib.so")
    assert reason
    assert says in reason
    assert advice in reason
    assert "OV_MOE_CACHE" in reason
    assert distrust(folder / "lib.so", any_owner=True) == reason


def test_a_sticky_folder_above_serves(folder: Path) -> None:
    folder.parent.chmod(0o1777)
    assert distrust(folder / "lib.so") is None


def test_the_users_own_group_may_write(folder: Path) -> None:
    """As with a umask of 002, where every user has a group of the same name."""
    import grp
    import pwd

    name = pwd.getpwuid(os.geteuid()).pw_name
    try:
        own = grp.getgrnam(name)
        os.chown(folder, -1, own.gr_gid)
    except (KeyError, PermissionError):
        pytest.skip(f"{name} has no group of its own here")
    folder.chmod(0o775)
    assert distrust(folder / "lib.so") is None


@root_only
def test_another_group_may_not(folder: Path) -> None:
    os.chown(folder, -1, NOBODY)
    folder.chmod(0o775)
    assert "can be written by other users" in str(distrust(folder / "lib.so"))


@root_only
@pytest.mark.parametrize("level", [0, 1, 2])
def test_what_belongs_to_another_user_is_refused(level: int, folder: Path) -> None:
    path = [folder / "lib.so", *(folder / "lib.so").parents][level]
    os.chown(path, NOBODY, -1)
    assert f"{path} belongs to the user " in str(distrust(folder / "lib.so"))
    assert distrust(folder / "lib.so", any_owner=True) is None


def state(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


SPOILT: dict[str, Callable[[Path], object]] = {
    "gone": lambda place: (place / "layers.xml").unlink(),
    "changed": lambda place: (place / "a.cl").write_bytes(b"KERNEL"),
    "cut": lambda place: (place / "a.cl").write_bytes(b"kern"),
    "empty": lambda place: [path.unlink() for path in place.iterdir()],
    "a link to the same": lambda place: [
        (place / "a.cl").rename(place.parents[1] / "same"),
        (place / "a.cl").symlink_to(place.parents[1] / "same"),
    ],
    "a link to another": lambda place: [
        (place.parents[1] / "other").write_bytes(b"KERNEL"),
        (place / "a.cl").unlink(),
        (place / "a.cl").symlink_to(place.parents[1] / "other"),
    ],
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_was_spoilt_is_written_again(name: str, tmp_path: Path) -> None:
    place = kept([tmp_path / "layers"], "build", CONTENT)
    SPOILT[name](place)
    assert kept([tmp_path / "layers"], "build", CONTENT) == place
    assert state(place) == CONTENT
    assert not (place / "a.cl").is_symlink()
    assert {path.name for path in (tmp_path / "layers").iterdir()} == {"build"}


def test_what_is_right_is_left_alone(tmp_path: Path) -> None:
    place = kept([tmp_path / "layers"], "build", CONTENT)
    before = {path: path.stat().st_ino for path in place.iterdir()}
    kept([tmp_path / "layers"], "build", CONTENT)
    assert {path: path.stat().st_ino for path in place.iterdir()} == before


@pytest.mark.parametrize(("mask", "folder", "file"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600), (0, 0o755, 0o644)])
def test_permissions_follow_the_umask_and_others_never_write(mask: int, folder: int, file: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        place = kept([tmp_path / "cache" / "layers"], "build", CONTENT)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (place.parents[1], place.parent, place)] == [folder] * 3
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {file}


def test_a_layer_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    place = kept([tmp_path / "layers"], "build", CONTENT)
    place.chmod(0o777)
    with pytest.raises(DeviceError, match=r"build can be written by other users, .*: chmod go-w"):
        kept([tmp_path / "layers"], "build", CONTENT)


LAYERS = """
import sys
from pathlib import Path
from ov_moe.storage.kept import kept
from ov_moe.storage.places import places
contents = {"a.cl": sys.argv[2].encode(), "layers.xml": b"<CustomLayer/>"}
print(kept(places(Path(sys.argv[1]), "layers"), "build", contents, any_owner=True))
"""


def by_nobody(cache: Path, kernel: str) -> subprocess.CompletedProcess[str]:
    command = [*as_nobody(), sys.executable, "-c", LAYERS, str(cache), kernel]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    made = tmp_path / "cache"
    made.mkdir()
    return made


def test_two_users_of_one_cache(cache: Path) -> None:
    """The second one reads what is right, and has a place of its own for the rest, where the folder lets it."""
    as_nobody()
    shared = kept(places(cache, "layers"), "build", CONTENT, any_owner=True)
    done = by_nobody(cache, "kernel")
    assert done.stdout.strip() == str(shared), done.stderr
    done = by_nobody(cache, "another")
    assert done.returncode == 1
    assert "PermissionError" in done.stderr.splitlines()[-1]  # which Layers.write turns into its sentence
    cache.chmod(0o1777)
    done = by_nobody(cache, "another")
    assert done.stdout.strip() == str(cache / f"uid-{NOBODY}" / "layers" / "build"), done.stderr
    assert state(shared) == CONTENT
    cache.chmod(0o777)
    assert "cache can be written by other users" in by_nobody(cache, "kernel").stderr


def test_what_the_other_user_came_first_with_serves_by_its_content(cache: Path) -> None:
    as_nobody()
    cache.chmod(0o1777)
    shared = Path(by_nobody(cache, "kernel").stdout.strip())
    assert shared == cache / "layers" / "build"
    assert kept(places(cache, "layers"), "build", CONTENT, any_owner=True) == shared
    own = kept(places(cache, "layers"), "build", CONTENT)
    assert own == cache / f"uid-{os.geteuid()}" / "layers" / "build"


def test_a_layer_file_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    from test_layers import CONFIG, SIZES

    from ov_moe.kernels.layer_xml import layers

    (tmp_path / "cache").touch()
    with pytest.raises(OutputError) as refused:
        layers(CONFIG, SIZES).write(*places(tmp_path / "cache", "layers"))
    assert "cache/layers" in str(refused.value)
    assert str(refused.value).endswith("let OV_MOE_CACHE name a folder that can.")
