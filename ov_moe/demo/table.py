"""The demonstration's table, and what has to be said about its times."""

from __future__ import annotations

from rich.table import Table

from ov_moe.demo.measure import Row
from ov_moe.devices.place import Place
from ov_moe.devices.target import Target


def to_table(rows: list[Row], prompt: int, tokens: int) -> Table:
    """The measured variants, one a row; the counters of the virtual GPU are n/a elsewhere."""
    table = Table(
        title=f"{prompt} prompt tokens, {tokens} generated, f32; reference: the unfused model on the CPU plugin",
        title_justify="left",
        caption=(
            "error: of a logit, over the largest logit; launches, work-groups: of ov-moe's kernels in one prefill; "
            "builds: all programs (those with a kernel of ov-moe); times: medians"
        ),
        caption_justify="left",
    )
    table.add_column("variant", no_wrap=True)
    for column in (
        "blocks\nrewritten",
        "max\nerror",
        "same\ntokens",
        "kernel\nlaunches",
        "work-\ngroups",
        "builds at\ncompile",
        "builds\nlater",
        "prefill\nms",
        "token\nms",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        work = row.work
        counted = (work.launches, work.groups, work.at_compile, work.later) if work else ("n/a",) * 4
        table.add_row(
            row.variant,
            str(row.blocks),
            f"{row.error:.1e}",
            "yes" if row.same_tokens else "NO",
            *map(str, counted),
            f"{row.prefill_ms:.1f}",
            f"{row.token_ms:.1f}",
        )
    return table


def times(target: Target, place: Place) -> str:
    """Whose times the table shows."""
    if place.virtual:
        return (
            "Times: this is the virtual GPU, OpenVINO's GPU plugin on this machine's CPU. The times are the CPU's and "
            "say nothing about any GPU; results, launches, work-groups and builds are the plugin's own."
        )
    if not target.gpu:
        return (
            "Times: on the CPU device the operations of ov-moe run outside the plugin, which is for checking results; "
            "their times say nothing about a GPU."
        )
    return f"Times: measured on {target.full_name}."
