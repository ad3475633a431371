"""The work of ``ov-moe optimize``: survey all IRs of a folder, then write the new folder whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ov_moe.folder.files import Listing, layer_types, list_model, may_hold_blocks, size_of
from ov_moe.folder.ours import Snapshot
from ov_moe.folder.read import new_core, read
from ov_moe.folder.report import FolderReport, IRReport
from ov_moe.folder.save import rewrite_and_save
from ov_moe.folder.swap import recover
from ov_moe.folder.write import check_output, check_room, copy, whole_folder
from ov_moe.optimizer import survey
from ov_moe.options import Config
from ov_moe.spec import Balance

# (what is at work, bytes written so far, bytes in all)
Progress = Callable[[str, int, int], None]


def _silent(what: str, done: int, total: int) -> None:
    """No progress is shown."""


def optimize_folder(
    source: Path,
    output: Path,
    balance: Balance | None = None,
    *,
    max_tokens: int | None = None,
    few_tokens: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = _silent,
) -> FolderReport:
    """Write a model folder anew, with the MoE blocks of every IR in it rewritten and all else carried over.

    Args:
        source: The folder, or an IR's .xml, which then is carried over alone.
        output: The folder to write; it appears whole or not at all.
        balance: As for ``optimize``.
        max_tokens: As for ``optimize``.
        few_tokens: As for ``optimize``.
        force: Replace ``output`` where it exists and is empty, or ov-moe wrote all that is in it, unchanged since:
            its manifest says so. It stays until the new folder is complete.
        dry_run: Only report; weights are mapped, not read.
        progress: Hears what is at work, and the bytes written so far and in all.

    Returns:
        What was rewritten; its ``output`` is None after a dry run, and where nothing can be rewritten.

    Raises:
        OvMoeError: The model, an argument or the output cannot be served, or writing failed; nothing was written.
        OSError: A file cannot be read or written; nothing was written.
    """
    config = Config.from_environment(balance=balance, max_tokens=max_tokens, few_tokens=few_tokens)
    if not dry_run:
        recover(output.absolute().parent)
    replaced = check_output(source, output, force)
    listing = list_model(source)
    report = FolderReport(
        source=str(source),
        output=None,
        irs=_survey(listing, config, progress),
        others=tuple(path.as_posix() for path in listing.others),
        left_out=tuple(path.as_posix() for path in listing.left_out),
    )
    if dry_run or not report.rewritten:
        return report
    _write(listing, report, output, replaced, config, progress)
    return replace(report, output=str(output))


def _survey(listing: Listing, config: Config, progress: Progress) -> tuple[IRReport, ...]:
    core = new_core()
    reports, tokens = [], {"max_tokens": config.max_tokens, "few_tokens": config.few_tokens}
    for path in listing.irs:
        progress(f"reading {path}", 0, 1)
        report = None
        if may_hold_blocks(layer_types(listing.root / path) or frozenset()):
            report = survey(read(core, listing.root / path), config.balance, **tokens)
        rewritten = bool(report and report.rewritten)
        reports.append(IRReport(path.as_posix(), "rewritten" if rewritten else "copied", report))
    return tuple(reports)


def _write(
    listing: Listing,
    report: FolderReport,
    output: Path,
    replaced: Snapshot | None,
    config: Config,
    progress: Progress,
) -> None:
    rewritten = [Path(ir.path) for ir in report.irs if ir.action == "rewritten"]
    copied = list(listing.others)
    for ir in report.irs:
        if ir.action == "copied":
            pair = Path(ir.path), Path(ir.path).with_suffix(".bin")
            copied += [path for path in pair if (listing.root / path).exists()]
    # A rewritten IR's weights are as large as before.
    sizes = {path: size_of(listing.root, path.with_suffix(".bin")) for path in rewritten}
    sizes |= {path: size_of(listing.root, path) for path in copied}
    total, done = sum(sizes.values()), 0
    check_room(output, total)

    def written(what: str, before: int, size: int) -> None:
        progress(what, before + size, total)

    with whole_folder(output, replaced) as fresh:
        for path, size in sizes.items():
            say = partial(written, path.name, done)
            say(0)
            if path in rewritten:
                rewrite_and_save(listing.root / path, fresh.folder / path, config, say, fresh.lock)
            else:
                fresh.entries[path.as_posix()] = copy(listing.root / path, fresh.folder / path, say)
            done += size
