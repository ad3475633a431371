"""Runs a prompt set through a traced model. Imports openvino."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

import ov_moe
from ov_moe.commands.prompts import Ids, Prompt, random_ids
from ov_moe.commands.stop import STOPS, Stop
from ov_moe.commands.tokenizer import Tokenize, load_tokenizer
from ov_moe.compiler import compile_model
from ov_moe.devices import machine
from ov_moe.devices.target import Target, parse_target
from ov_moe.errors import InvalidInputError
from ov_moe.folder.read import read
from ov_moe.generate import greedy_steps
from ov_moe.ops import register
from ov_moe.optimizer import optimize
from ov_moe.options import Config
from ov_moe.trace.recording import Counts, Recording, check_layer
from ov_moe.trace.taps import Taps, TracedSession, tapped
from ov_moe.transformations.operations import moe_operations

Progress = Callable[[str], None]


def record(
    path: Path,
    device: str,
    prompts: Sequence[Prompt],
    config: Config,
    properties: dict[str, str],
    new_tokens: int = 0,
    seed: int = 0,
    progress: Progress = lambda _: None,
    layer: int | None = None,
) -> tuple[Recording, Stop | None]:
    """Trace a model over a prompt set; returns the recording, and why it holds the first prompts alone where it does.

    Args:
        path: The IR's .xml, rewritten or not.
        device: ``GPU``, ``GPU.n``, ``AUTO:GPU`` or ``CPU``.
        prompts: Each is one prefill.
        config: Options of the rewriting.
        properties: For ``compile_model``.
        new_tokens: Tokens to generate after each prompt; they are counted apart.
        seed: Of random prompts.
        progress: Told before each prompt.
        layer: One that the model must have.

    Raises:
        InvalidInputError: The model holds no MoE block or not that layer, or the first prompt cannot be served.
    """
    core = ov.Core()
    target = parse_target(core, device)
    taps = tapped(_rewritten(core, path, config))
    check_layer(layer, len(taps.layers))
    texts = any(prompt.text is not None for prompt in prompts)
    tokenize = load_tokenizer(path.parent) if texts else None
    compiled = compile_model(core, taps.model, device, properties, fetch=config.fetch, groups=config.groups)
    vocabulary = int(compiled.output("logits").get_partial_shape()[2].get_max_length())
    session = TracedSession(compiled)
    # Of each prompt: the counts of its prefill, its tokens, and the counts of all further tokens.
    done = list[tuple[Counts, int, Counts]]()
    stop = None
    try:
        for number, prompt in enumerate(prompts, start=1):
            progress(f"{number} of {len(prompts)}: {prompt.label()}")
            done.append(_counted(session, taps, _ids(prompt, tokenize, vocabulary, seed), new_tokens))
    except STOPS as error:
        if not done:
            raise
        stop = Stop.by(error)
    prefills, tokens, decode = zip(*done, strict=True)
    facts = _facts(path, target, prompts[: len(done)], stop)
    return Recording(taps.layers, prefills, sum(decode, _no_rows(taps)), tokens, facts), stop


def _facts(path: Path, target: Target, prompts: Sequence[Prompt], stop: Stop | None) -> dict[str, Any]:
    """What belongs beside the counts of these prompts."""
    return {
        "time": machine.now(),
        "model": path.parent.name,
        "device": target.full_name,
        "ov_moe": ov_moe.__version__,
        "openvino": ov.get_version(),
        "prompts": [prompt.label() for prompt in prompts],
        "complete": stop is None,
        "stopped": None if stop is None else stop.reason,
    }


def _rewritten(core: ov.Core, path: Path, config: Config) -> ov.Model:
    register(core)
    model = read(core, path)
    if not any(moe_operations(model)):
        report = optimize(model, config.balance, max_tokens=config.max_tokens, few_tokens=config.few_tokens)
        if not report.rewritten:
            raise InvalidInputError(f"{path} holds no MoE block that ov-moe can rewrite: there is nothing to trace.")
    return model


def _ids(prompt: Prompt, tokenize: Tokenize | None, vocabulary: int, seed: int) -> Ids:
    if prompt.text is not None and tokenize is not None:
        return tokenize(prompt.text)
    return random_ids(prompt.tokens or 1, 1, vocabulary, seed)


def _counted(session: TracedSession, taps: Taps, ids: Ids, new_tokens: int) -> tuple[Counts, int, Counts]:
    """The counts of a prompt's prefill, its tokens, and the counts of all further tokens."""
    size = ids.size
    session.reset()
    steps = list[Counts]()
    for _ in greedy_steps(session.step, ids, new_tokens + 1):
        steps.append(session.counts(len(taps.layers), taps.experts))
    return steps[0], size, sum(steps[1:], _no_rows(taps))


def _no_rows(taps: Taps) -> Counts:
    return np.zeros((len(taps.layers), taps.experts), np.int64)
