"""What ``optimize`` found, rewrote and left alone; printed, it is a table."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class RewrittenBlock:
    """A block that now runs on ov-moe's operations.

    Attributes:
        name: Friendly name of the block's last node, which its replacement carries on.
        experts: E.
        top_k: k.
        hidden: H.
        intermediate: I.
        precision: Stored weights of ``gate``, ``up`` and ``down`` (or ``gate and up``), e.g. ``u4 g32 asym``.
        exponents: Buffers whose values may be beyond f16, so that their rows have exponents: of ``h`` (between the
            projections) and ``d`` (before the top-k weights).
    """

    name: str
    experts: int
    top_k: int
    hidden: int
    intermediate: int
    precision: dict[str, str]
    exponents: tuple[str, ...] = ()


@dataclass(frozen=True)
class SkippedBlock:
    """A region that looks like a MoE block and was left as it was.

    Attributes:
        name: Friendly name of the region's last node.
        reason: One sentence: the node, and the first condition that failed.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Report:
    """The outcome of ``optimize``.

    Attributes:
        rewritten: The blocks that were replaced, in the model's order.
        skipped: The blocks that were left alone, each with its reason.
        balance: The switch as it was given.
        max_tokens: Tokens that the blocks' buffers have room for.
        already: Blocks that an earlier ``optimize`` had rewritten, with the switch and the room of that time.
    """

    rewritten: tuple[RewrittenBlock, ...]
    skipped: tuple[SkippedBlock, ...]
    balance: str
    max_tokens: int
    already: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The report as what JSON knows: its fields by name, blocks as dictionaries in lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def to_json(self) -> str:
        """``to_dict`` as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def table(self) -> Table:
        """The report as a table for a rich console."""
        title = (
            f"{len(self.rewritten)} MoE blocks rewritten, {len(self.skipped)} left alone "
            f"(balance {self.balance}, room for {self.max_tokens} tokens at a time)"
        )
        table = Table(title=title, title_justify="left", caption=self._beyond_f16(), caption_justify="left")
        for column in ("block", "experts", "top-k", "hidden", "intermediate", "gate / up / down"):
            table.add_column(column, overflow="fold")
        for block in self.rewritten:
            sizes = (block.experts, block.top_k, block.hidden, block.intermediate)
            table.add_row(block.name, *map(str, sizes), " / ".join(block.precision.values()))
        for region in self.skipped:
            table.add_row(region.name, "", "", "", "", f"left alone: {region.reason}")
        return table

    def _beyond_f16(self) -> str | None:
        """Which buffers of how many blocks are kept in range."""
        counts = {name: sum(name in block.exponents for block in self.rewritten) for name in ("h", "d")}
        kept = " and ".join(f"{name} of {_count(count)}" for name, count in counts.items() if count)
        return f"where a value is beyond f16, exponents keep its row in range: {kept}" if kept else None

    def __str__(self) -> str:
        if self.already and not self.rewritten and not self.skipped:
            return already_optimized(self.already)
        if not self.rewritten and not self.skipped:
            return "No MoE block was found: the model is unchanged; compile it with core.compile_model."
        out = io.StringIO()
        Console(file=out, width=140).print(self.table())
        return out.getvalue().rstrip()


def already_optimized(blocks: int) -> str:
    """The sentence on a model in which an earlier ``optimize`` rewrote that many blocks."""
    return (
        f"The model is already optimised ({_count(blocks)} on ov-moe's operations): it is unchanged; start from the "
        "original IR to change balance or max_tokens."
    )


def _count(blocks: int) -> str:
    return f"{blocks} MoE block" if blocks == 1 else f"{blocks} MoE blocks"
