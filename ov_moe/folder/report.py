"""What happened to each file of a model folder; printed, it is a table for each IR."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console

from ov_moe.report import Report

Action = Literal["rewritten", "copied"]


@dataclass(frozen=True)
class IRReport:
    """One IR of a model folder.

    Attributes:
        path: Its .xml, relative to the folder.
        action: ``copied`` where nothing in it can be rewritten.
        report: On its blocks; None where it holds no MatMul and was not even read.
    """

    path: str
    action: Action
    report: Report | None


@dataclass(frozen=True)
class FolderReport:
    """The outcome for a model folder.

    Attributes:
        source: The folder, or the one IR's .xml.
        output: The folder that was written, None where nothing was.
        irs: Every IR, in the order of their paths.
        others: Files that were, or would be, carried over beside the IRs.
        left_out: Sub-folders and files that are not part of a model.
    """

    source: str
    output: str | None
    irs: tuple[IRReport, ...]
    others: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def rewritten(self) -> int:
        """Blocks rewritten in all IRs."""
        return sum(len(ir.report.rewritten) for ir in self.irs if ir.report)

    @property
    def already(self) -> int:
        """Blocks in all IRs that an earlier run had rewritten."""
        return sum(ir.report.already for ir in self.irs if ir.report)

    def to_dict(self) -> dict[str, Any]:
        """The report as what JSON knows; each IR's ``report`` is that of ``Report.to_dict`` or None."""
        return {
            "source": self.source,
            "output": self.output,
            "irs": [
                {"path": ir.path, "action": ir.action, "report": ir.report.to_dict() if ir.report else None}
                for ir in self.irs
            ],
            "others": list(self.others),
            "left_out": list(self.left_out),
        }

    def to_json(self) -> str:
        """``to_dict`` as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def print(self, console: Console) -> None:
        """A table or a sentence for each IR, and what became of the other files."""

        def line(text: str) -> None:
            console.print(text, highlight=False, soft_wrap=True, markup=False)

        for ir in self.irs:
            if ir.report is None:
                line(f"{ir.path}: no MatMul in it, copied as it is.")
            elif ir.report.rewritten or ir.report.skipped:
                line(f"{ir.path}:")
                console.print(ir.report.table())
            else:
                line(f"{ir.path}: {ir.report}")
        if self.left_out:
            line(f"Left out: {', '.join(self.left_out)}.")
        if self.output is None:
            line("Nothing was written.")
        else:
            line(f"{self.output}: written, with {len(self.others)} other files carried over.")
