"""Measures one compiled model: its logits against the reference, its tokens, its work and its times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
import openvino as ov

from ov_moe import virtual_gpu
from ov_moe.demo import work
from ov_moe.generate import Logits, Session, Tokens, greedy

# The plugin builds kernels for the shapes it meets in the background. A second without a build ends the warm-up;
# so do this many rounds.
_QUIET_S = 1.0
_WARM_UP_ROUNDS = 200
_TIMED_ROUNDS = 5


@dataclass(frozen=True)
class Reference:
    """What all variants are compared with.

    Attributes:
        prompt: int64 [1,S].
        tokens: int64 [1,N], greedy.
        logits: float32 [1,S+N-1,V]: for the prompt and for every token but the last.
    """

    prompt: Tokens
    tokens: Tokens
    logits: Logits


@dataclass(frozen=True)
class Row:
    """One variant, measured.

    Attributes:
        variant: Its name.
        blocks: MoE blocks that were rewritten.
        error: Largest deviation of a logit from the reference, over the reference's largest logit; the worst
            of all rounds, the first included.
        same_tokens: Whether greedy generation gave the reference's tokens, every time.
        logits: Of the last round, shaped as the reference's.
        work: None where no virtual GPU counts.
        prefill_ms: Median time of the prompt.
        token_ms: Median time of each further token.
    """

    variant: str
    blocks: int
    error: float
    same_tokens: bool
    logits: Logits
    work: work.Work | None
    prefill_ms: float
    token_ms: float


def make_reference(compiled: ov.CompiledModel, prompt: Tokens, tokens: int) -> Reference:
    """Generate that many tokens with the model to compare with."""
    session = Session(compiled)
    generated, _ = greedy(session, prompt, tokens)
    return Reference(prompt, generated, _fed_logits(session, prompt, generated))


def measure(
    variant: str, blocks: int, build: Callable[[], ov.CompiledModel], reference: Reference, *, counted: bool
) -> Row:
    """Compile a variant, compare it with the reference, whose tokens it is fed, and time it.

    Args:
        variant: Its name.
        blocks: MoE blocks that were rewritten in it.
        build: Compiles it.
        reference: What it is compared with.
        counted: Whether the device is the virtual GPU.
    """
    if counted:
        virtual_gpu.reset()
    session = Session(build())
    at_compile = work.builds() if counted else None
    logits, error = _warm_up(session, reference, counted)
    same, prefill_ms, token_ms = _time(session, reference)
    done = None
    if at_compile:
        later = work.builds() - at_compile
        virtual_gpu.reset()
        session.reset()
        session.step(reference.prompt)
        done = work.Work(*work.launches(), at_compile, later)
    return Row(variant, blocks, error, same, logits, done, prefill_ms, token_ms)


def _warm_up(session: Session, reference: Reference, counted: bool) -> tuple[Logits, float]:
    """Feed the reference's tokens, again and again until nothing is built: the last logits, the worst error."""
    error, seen, quiet_since = 0.0, work.builds() if counted else None, perf_counter()
    for _ in range(_WARM_UP_ROUNDS):
        logits = _fed_logits(session, reference.prompt, reference.tokens)
        deviation = np.abs(logits - reference.logits).max() / np.abs(reference.logits).max()
        error = float(np.maximum(error, deviation))  # NaN stays
        if counted and (now := work.builds()) != seen:
            seen, quiet_since = now, perf_counter()
        if perf_counter() - quiet_since > _QUIET_S:
            break
    return logits, error


def _time(session: Session, reference: Reference) -> tuple[bool, float, float]:
    """Whether the tokens are the reference's every time, and the median milliseconds of prompt and token."""
    same, prefill_s, decode_s = True, list[float](), list[float]()
    for _ in range(_TIMED_ROUNDS):
        tokens, timings = greedy(session, reference.prompt, reference.tokens.shape[1])
        same = same and bool(np.array_equal(tokens, reference.tokens))
        prefill_s.append(timings.prefill_s)
        decode_s.extend(timings.decode_s)
    return same, 1e3 * median(prefill_s), 1e3 * median(decode_s)


def _fed_logits(session: Session, prompt: Tokens, tokens: Tokens) -> Logits:
    """The logits for the prompt and every token but the last: prefill, then one token at a time."""
    session.reset()
    steps = [session.step(prompt)]
    steps += [session.step(tokens[:, i : i + 1]) for i in range(tokens.shape[1] - 1)]
    return np.concatenate(steps, axis=1)
