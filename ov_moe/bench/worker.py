"""One turn, in a process of its own: compiles a variant and generates. Imports openvino."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import openvino as ov

from ov_moe.bench.generation import generate
from ov_moe.bench.job import FIRST, JOB, OTHER, Iteration, Job, Turn
from ov_moe.bench.profile import ProfiledSession
from ov_moe.commands.prompts import Ids, Prompt, random_ids
from ov_moe.commands.tokenizer import load_tokenizer
from ov_moe.compiler import compile_model
from ov_moe.devices import machine
from ov_moe.devices.target import parse_target
from ov_moe.errors import InvalidInputError
from ov_moe.folder.read import read_original
from ov_moe.generate import Logits, Session, greedy_steps
from ov_moe.openvino_errors import translated
from ov_moe.optimizer import optimize

# Generations of a profile after one that does not count: in a single inference an average could stay where it was.
_PROFILED = 3
# Further tokens of each.
_PROFILED_TOKENS = 3


@dataclass(frozen=True)
class _Generated:
    """All generations of a timed turn, and the last logits of each prompt."""

    iterations: list[Iteration] = field(default_factory=list)
    logits: dict[int, Logits] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """What a profiling turn finds; see ``Turn``."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    proof: dict[str, int] = field(default_factory=dict)
    wall_ms: dict[str, float] = field(default_factory=dict)


def run(job: Job, folder: Path) -> Turn:
    """Compile the variant, generate, measure; the logits go to a file in ``folder``."""
    core = ov.Core()
    target = parse_target(core, job.device)
    start = perf_counter()
    model = read_original(core, Path(job.model))
    prompts, tokenization_ms = _prompts(job, _vocabulary(model))
    names, skipped = _rewrite(model, job)
    loaded = perf_counter()
    compiled = _compile(core, model, job)
    del model
    compiled_s = perf_counter() - loaded
    builds = {f"{kind}_compile": count for kind, count in machine.builds().items()}
    rss_compiled = machine.peak_rss()
    made, profile = _Generated(), Profile()
    if job.profile:
        profile = _profile(ProfiledSession(compiled, job.batch), prompts[0], names, job.few_tokens)
    else:
        device_bytes = partial(machine.device_bytes, core, target)
        made = _generate(Session(compiled, job.batch), job, prompts, tokenization_ms, device_bytes)
        # Of a profiling turn the counters were reset.
        builds |= {f"{kind}_later": count - builds[f"{kind}_compile"] for kind, count in machine.builds().items()}
    file = folder / "logits.npz"
    arrays: dict[str, Any] = {str(index): values for index, values in made.logits.items()}
    np.savez(file, **arrays)
    return Turn(
        variant=job.variant,
        load_s=loaded - start,
        compile_s=compiled_s,
        blocks=len(names),
        skipped=skipped,
        builds=builds,
        iterations=made.iterations,
        rss_compiled=rss_compiled,
        logits=str(file),
        profile=profile.rows,
        proof=profile.proof,
        wall_ms=profile.wall_ms,
        facts=machine.facts(core, target),
    )


def _rewrite(model: ov.Model, job: Job) -> tuple[list[str], list[str]]:
    """Rewrite the model where the variant is that; the names of its blocks, and why others were skipped."""
    if job.balance is None:
        return [], []
    report = optimize(model, job.balance, max_tokens=job.max_tokens, few_tokens=job.few_tokens)
    skipped = [f"{region.name}: {region.reason}" for region in report.skipped]
    if not report.rewritten:
        reason = f" ({skipped[0]})" if skipped else ""
        raise InvalidInputError(f"{job.model} holds no MoE block that ov-moe can rewrite{reason}.")
    return [block.name for block in report.rewritten], skipped


def _generate(
    session: Session,
    job: Job,
    prompts: list[Ids],
    tokenization_ms: list[float],
    device_bytes: Callable[[], dict[str, int]],
) -> _Generated:
    found = _Generated()
    for number in range(1 - job.warm_up, job.iterations + 1):
        for index, prompt in enumerate(prompts):
            made = generate(session, prompt, job.new_tokens)
            found.logits[index] = made.logits
            found.iterations.append(
                Iteration(
                    iteration=max(number, 0),
                    prompt=index,
                    input_size=prompt.shape[1],
                    output_size=job.new_tokens,
                    tokenization_ms=tokenization_ms[index],
                    first_ms=made.step_ms[0],
                    first_infer_ms=made.infer_ms[0],
                    other_ms=made.step_ms[1:],
                    other_infer_ms=made.infer_ms[1:],
                    md5=made.md5(),
                    rss=machine.peak_rss(),
                    device_bytes=device_bytes(),
                )
            )
    return found


def _compile(core: ov.Core, model: ov.Model, job: Job) -> ov.CompiledModel:
    properties: dict[str, object] = {**job.properties, **({"PERF_COUNT": True} if job.profile else {})}
    if job.balance is not None:
        return compile_model(core, model, job.device, properties, fetch=job.fetch, groups=job.groups)
    with translated(f"OpenVINO cannot compile the unfused model for {job.device}"):
        return core.compile_model(model, job.device, properties)


def _vocabulary(model: ov.Model) -> int:
    for output in model.outputs:
        shape = output.get_partial_shape()
        if "logits" in output.get_names() and len(shape) == 3 and shape[2].is_static:
            return int(shape[2].get_length())
    raise InvalidInputError(
        "The model has no output named logits with a known vocabulary: give a model exported for text generation."
    )


def _prompts(job: Job, vocabulary: int) -> tuple[list[Ids], list[float]]:
    """The ids of each prompt, int64 [batch, S], and the milliseconds that tokenization took."""
    texts = [prompt for prompt in job.prompts if prompt.text is not None]
    tokenize = load_tokenizer(job.folder) if texts else None
    ids, times = list[Ids](), list[float]()
    for prompt in job.prompts:
        if prompt.text is None or tokenize is None:
            ids.append(random_ids(prompt.tokens or 1, job.batch, vocabulary, job.seed))
            times.append(0.0)
            continue
        start = perf_counter()
        found = tokenize(prompt.text)
        times.append(1e3 * (perf_counter() - start))
        ids.append(_fitting(np.repeat(found, job.batch, axis=0), prompt, vocabulary))
    return ids, times


def _fitting(ids: Ids, prompt: Prompt, vocabulary: int) -> Ids:
    if ids.shape[1] == 0 or ids.max() >= vocabulary:
        raise InvalidInputError(
            f"The tokenizer makes of {prompt.label()} ids that the model does not have: it belongs to another model."
        )
    return ids


def _profile(session: ProfiledSession, prompt: Ids, names: list[str], few_tokens: int) -> Profile:
    """The profile of a prompt and of further tokens, and how many rewritten blocks ran in each."""
    found = Profile()
    phases = (FIRST, *[OTHER] * _PROFILED_TOKENS)

    def step(ids: Ids) -> Logits:
        machine.reset_launches()
        return session.profiled_step(ids, OTHER if session.length else FIRST)

    for number in range(1 + _PROFILED):
        session.reset()
        for phase, _ in zip(phases, greedy_steps(step, prompt, len(phases)), strict=True):
            found.proof.update({f"{phase}, {name}": value for name, value in machine.launches().items()})
        if not number:  # it may have built and allocated
            session.end_warm_up()
    session.take_apart()
    for phase, tokens in ((FIRST, prompt.size), (OTHER, session.batch)):
        found.proof[phase] = session.blocks_run(names, phase, loop=tokens > few_tokens)
        found.wall_ms[phase] = session.wall_ms(phase)
        found.rows.extend(session.profile(phase))
    return found


def turn(folder: str) -> dict[str, Any]:
    """The turn whose job lies in ``folder``, as ``ov_moe.children`` calls it."""
    job = Job.from_json(json.loads(Path(folder, JOB).read_text(encoding="utf-8")))
    return asdict(run(job, Path(folder)))
