"""The command ``ov-moe bench``: end-to-end latency of a model, rewritten and not. Does not import openvino."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.console import Console

from ov_moe.bench import verdict
from ov_moe.bench.job import FIRST, OTHER, Job, Variant
from ov_moe.bench.output import Measurement, to_csv, to_json
from ov_moe.bench.plot import draw
from ov_moe.bench.summary import summarize
from ov_moe.bench.table import profile_table, summary_table
from ov_moe.bench.turns import abba, run_turns
from ov_moe.commands.figures import figure_format
from ov_moe.commands.guard import one_sentence
from ov_moe.commands.model_files import find_model
from ov_moe.commands.output_files import check_writable, write_together
from ov_moe.commands.prompts import parse_prompts
from ov_moe.commands.properties import parse_properties
from ov_moe.commands.stop import IncompleteError
from ov_moe.devices.place import choose
from ov_moe.errors import InvalidInputError, OvMoeError
from ov_moe.options import Config
from ov_moe.storage.drafts import scratch

_WIDTH = 150
# More than take the path for decode.
_DEFAULT_TOKENS = "128"

_Texts = Annotated[list[str] | None, typer.Option("--prompt", "-p", help="A text; may be given again.")]
_Settings = Annotated[
    list[str] | None,
    typer.Option("--property", help="KEY=VALUE for compile_model, as in INFERENCE_PRECISION_HINT=f32; repeatable."),
]


def command(
    model: Annotated[Path, typer.Argument(help="An IR (.xml) or its folder, not rewritten.")],
    device: Annotated[
        str, typer.Option("--device", "-d", help="auto (a real GPU, else the virtual GPU), GPU, GPU.n or CPU.")
    ] = "auto",
    variants: Annotated[
        str,
        typer.Option(help="Of unfused, off, on, auto (balance), separated by commas; the first is the reference."),
    ] = "unfused,off,on",
    prompt_tokens: Annotated[str | None, typer.Option(help="Prompts of so many random tokens, as in 128,1024.")] = None,
    prompt: _Texts = None,
    prompt_file: Annotated[
        Path | None, typer.Option("--prompt-file", "-pf", help="One text a line; .jsonl: {'prompt': '...'}.")
    ] = None,
    new_tokens: Annotated[int, typer.Option("--new-tokens", "-ic", help="Tokens to generate.")] = 32,
    iterations: Annotated[int, typer.Option("--iterations", "-n", help="Generations that count, in each turn.")] = 5,
    warm_up: Annotated[int, typer.Option(help="Generations before them, in each turn.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each variant: A B, then B A, and so on.")] = 2,
    batch: Annotated[int, typer.Option("--batch", "-bs", help="Sequences at a time.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the random tokens.")] = 0,
    setting: _Settings = None,
    max_tokens: Annotated[int | None, typer.Option(help="See OV_MOE_MAX_TOKENS.")] = None,
    proof: Annotated[bool, typer.Option(help="Show by the plugin's profile, in a run of its own, what ran.")] = True,
    profile: Annotated[bool, typer.Option("--profile", help="Show the time of each operation (PERF_COUNT).")] = False,
    max_error: Annotated[float | None, typer.Option(help="Fail where logits deviate by more of the largest.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", "-r", help="Write one row an iteration.")] = None,
    json: Annotated[Path | None, typer.Option("--json", "-rj", help="Write everything.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw every step (.png, .svg, .pdf); needs matplotlib.")] = None,
) -> None:
    """Time a model unfused, with balance off and with balance on, each in a process of its own."""
    with one_sentence():
        config = Config.from_environment(max_tokens=max_tokens)
        if max_error is not None and not max_error >= 0:
            raise InvalidInputError(f"max_error is {max_error:g}, it must be at least 0.")
        names = parse_variants(variants)
        job = Job(
            model=str(find_model(model)),
            device=device,
            variant=names[0],
            prompts=parse_prompts(prompt_tokens, prompt or [], prompt_file) or parse_prompts(_DEFAULT_TOKENS, [], None),
            new_tokens=new_tokens,
            batch=batch,
            warm_up=warm_up,
            iterations=iterations,
            seed=seed,
            properties=parse_properties(setting or []),
            max_tokens=config.max_tokens,
            few_tokens=config.few_tokens,
            fetch=config.fetch,
            groups=config.groups,
        )
        check_writable((csv, json, plot))
        picture = "" if plot is None else figure_format(plot)
        place = choose(device)
        job = replace(job, device=place.device)
        config = replace(config, virtual_gpu=config.virtual_gpu or place.virtual)
        measurement, failed = measure(job, config, names, rounds, proof or profile, max_error)
        try:
            _show(measurement, rounds, profile)
        finally:  # whoever read it may have left
            write_together({path: to(measurement) for path, to in ((csv, to_csv), (json, to_json)) if path is not None})
            if plot is not None:
                write_together({plot: draw(measurement, picture)})
        if failed is not None:
            raise failed


def measure(
    job: Job, config: Config, names: list[Variant], rounds: int, profiled: bool, max_error: float | None = None
) -> tuple[Measurement, OvMoeError | None]:
    """Run all turns; returns what they found, and why it is no measurement (None where it is one).

    Raises OvMoeError where no timed turn is complete.
    """
    planned = abba(names, rounds)
    jobs = [replace(job, variant=cast(Variant, name)) for name in planned]
    jobs += [replace(job, variant=name, profile=True) for name in names] if profiled else []
    progress = Console(stderr=True, highlight=False)
    with scratch("ov-moe-bench") as folder:
        turns = run_turns(jobs, folder, config.virtual_gpu, progress.print)
        summaries = summarize(turns.timed, job.batch)
    timed, stop = turns.timed, turns.stop
    proven = [verdict.path_of(turn) for turn in turns.profiles]
    said = [sentence for sentence, _ in proven]
    said += verdict.unproven(turns.unproven)
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
    failure = verdict.failure(summaries, proven, max_error) or next(iter(verdict.unproven(turns.unproven)), None)
    return found, None if failure is None else OvMoeError(failure)


def parse_variants(text: str) -> list[Variant]:
    """The variants of a command line; raises InvalidInputError for an unknown or repeated one."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or len(set(words)) < len(words) or not set(words) <= set(get_args(Variant)):
        raise InvalidInputError(
            f"variants is {text!r}: name one or more of {', '.join(get_args(Variant))}, each once, separated by commas."
        )
    return [cast(Variant, word) for word in words]


def _show(measurement: Measurement, rounds: int, profile: bool) -> None:
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDTH)
    console.print(summary_table(measurement.summaries, measurement.job, rounds))
    for turn in measurement.profiles if profile else ():
        for phase in (FIRST, OTHER):
            console.print(profile_table(turn, phase))
    for sentence in measurement.verdict:
        console.print(sentence, highlight=False, soft_wrap=True)
