"""The command ``ov-moe bench``: end-to-end latency of a model, rewritten and not. Does not import openvino."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

from ov_moe.bench import verdict
from ov_moe.bench.job import FIRST, OTHER, Job, Variant
from ov_moe.bench.options import BenchOptions
from ov_moe.bench.output import Measurement, to_csv, to_json
from ov_moe.bench.plot import draw
from ov_moe.bench.summary import summarize
from ov_moe.bench.table import profile_table, summary_table
from ov_moe.bench.turns import abba, run_turns
from ov_moe.commands.console import messages, tables
from ov_moe.commands.figures import figure_format
from ov_moe.commands.guard import one_sentence
from ov_moe.commands.options_record import command_from
from ov_moe.commands.output_files import check_writable, write_together
from ov_moe.commands.stop import IncompleteError
from ov_moe.devices.place import choose
from ov_moe.errors import OvMoeError
from ov_moe.options import Config
from ov_moe.storage.drafts import scratch

_WIDTH = 150


def bench(options: BenchOptions) -> None:
    """Time a model unfused, with balance off and with balance on, each in a process of its own."""
    with one_sentence():
        config = Config.from_environment(max_tokens=options.max_tokens)
        job = options.job(config)
        check_writable((options.csv, options.json, options.plot))
        picture = "" if options.plot is None else figure_format(options.plot)
        place = choose(options.device)
        job = replace(job, device=place.device)
        config = replace(config, virtual_gpu=config.virtual_gpu or place.virtual)
        measurement, failed = measure(options, job, config)
        try:
            _show(measurement, options)
        finally:  # whoever read it may have left
            files = (options.csv, to_csv), (options.json, to_json)
            write_together({path: to(measurement) for path, to in files if path is not None})
            if options.plot is not None:
                write_together({options.plot: draw(measurement, picture)})
        if failed is not None:
            raise failed


def measure(options: BenchOptions, job: Job, config: Config) -> tuple[Measurement, OvMoeError | None]:
    """Run all turns; returns what they found, and why it is no measurement (None where it is one).

    Raises OvMoeError where no timed turn is complete.
    """
    names, profiled = options.names, options.proof or options.profile
    planned = abba(names, options.rounds)
    jobs = [replace(job, variant=cast(Variant, name)) for name in planned]
    jobs += [replace(job, variant=name, profile=True) for name in names] if profiled else []
    with scratch("ov-moe-bench") as folder:
        turns = run_turns(jobs, folder, config.virtual_gpu, messages().print)
        summaries = summarize(turns.timed, job.batch)
    timed, stop = turns.timed, turns.stop
    proven = [verdict.path_of(turn) for turn in turns.profiles]
    said = [sentence for sentence, _ in proven]
    unproven = verdict.unproven(turns.unproven)
    said += unproven
    said += [*verdict.outputs(summaries), *verdict.short_prompts(summaries, job)]
    said.append(verdict.whose_times(timed[0].facts))
    said += sorted({f"Left alone: {reason}" for turn in timed for reason in turn.skipped})
    share = f"{len(timed)} of {len(planned)} timed turns"
    if profiled:
        share += f", {len(turns.profiles)} of {len(names)} profiles"
    if stop is not None:
        said.insert(0, f"INCOMPLETE, {share}: {stop.reason}")
    found = Measurement(
        job=job,
        config=config,
        turns=timed,
        profiles=turns.profiles,
        summaries=summaries,
        verdict=said,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        planned=planned,
        stopped=None if stop is None else stop.reason,
        unproven=turns.unproven,
    )
    if stop is not None:
        return found, IncompleteError(stop, share)
    failure = verdict.failure(summaries, proven, options.max_error) or next(iter(unproven), None)
    return found, None if failure is None else OvMoeError(failure)


def _show(measurement: Measurement, options: BenchOptions) -> None:
    console = tables(_WIDTH)
    console.print(summary_table(measurement.summaries, measurement.job, options.rounds))
    for turn in measurement.profiles if options.profile else ():
        for phase in (FIRST, OTHER):
            console.print(profile_table(turn, phase))
    for sentence in measurement.verdict:
        console.print(sentence, highlight=False, soft_wrap=True)


command = command_from(BenchOptions, bench)
