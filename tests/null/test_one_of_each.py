"""What the package does in one place alone: another one has to be a decision."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What is looked for, and the files that may hold it.
ONE_PLACE = {
    "a file is renamed over another": (r"\bos\.replace\(", {"ov_moe/storage/drafts.py"}),
    "a folder is renamed": (r"\bos\.rename\(", {"ov_moe/folder/swap.py"}),
    # The virtual GPU's compiler may be a Python package.
    "Python is started": (r"\bsys\.executable\b", {"ov_moe/children.py", "ov_moe/virtual_gpu/build.py"}),
    # A report as text has no terminal.
    "a console is made": (r"\bConsole\(", {"ov_moe/commands/console.py", "ov_moe/report.py"}),
    "a command's options are read off a record": (r"\binspect\.Signature\(", {"ov_moe/commands/options_record.py"}),
    "OpenCL is asked for its platforms": (r"\bget_platforms\(\)(?!`)", {"ov_moe/devices/opencl_list.py"}),
    "a process's memory is read": (r"VmHWM|ru_maxrss", {"ov_moe/devices/machine.py"}),
}


@pytest.mark.parametrize("what", ONE_PLACE)
def test_it_is_done_in_one_place(what: str) -> None:
    pattern, places = ONE_PLACE[what]
    files = sorted({path.resolve() for top in ("ov_moe", "transformations") for path in (ROOT / top).rglob("*.py")})
    found = {path.relative_to(ROOT).as_posix() for path in files if re.search(pattern, path.read_text("utf-8"))}
    assert found == places
