"""The commands that README.md and docs/ tell the reader to run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"]
}


def commands(page: str, start: str) -> list[str]:
    """Lines of fenced blocks that begin with ``start``, continued lines joined, comments and placeholders left out."""
    found = []
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)
    for _, block in filter(lambda pair: not pair[0], fenced):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            words = re.split(r"\s{2,}#|\s#\s", line)[0].replace("...", "").strip()
            found += [words] if words.startswith(start) else []
    return found
