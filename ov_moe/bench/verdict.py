"""What a measurement allows to be said: whose times these are, whether the fused path ran, whether outputs agree."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ov_moe.bench.job import FIRST, OTHER, Job, Turn
from ov_moe.bench.summary import Summary

# What the plugins call their own operations for a whole block, or for all its experts.
_FUSED_MOE = re.compile("moe|gathermatmul", re.IGNORECASE)


def whose_times(facts: dict[str, Any]) -> str:
    """On what the times were measured."""
    if facts["virtual_gpu"]:
        return (
            "Times: this is the virtual GPU, OpenVINO's GPU plugin on this machine's CPU. The times are the CPU's and "
            "say nothing about any GPU; outputs, builds and memory are the plugin's own."
        )
    if facts["device"] == "CPU":
        return (
            "Times: on the CPU device the operations of ov-moe run outside the plugin, which is for checking results; "
            "their times say nothing about a GPU."
        )
    return f"Times: measured on {facts['device_name']}, driver {facts['driver'] or 'unknown'}."


def path_of(turn: Turn) -> tuple[str, bool]:
    """What a profiling turn shows about the path taken, and whether it is the one that was asked for."""
    first, other = turn.proof[FIRST], turn.proof[OTHER]
    if turn.blocks:
        ran = min(first, other) == turn.blocks
        kernels = ""
        if f"{FIRST}, launches" in turn.proof:
            launches, groups = (turn.proof[f"{FIRST}, {what}"] for what in ("launches", "work-groups"))
            ran = ran and all(turn.proof.get(f"{phase}, launches") != 0 for phase in (FIRST, OTHER))
            kernels = f"; {launches} launches of {groups} work-groups for the first"
        return (
            f"{turn.variant}: by the plugin's profile ov-moe's operations ran in {first} of {turn.blocks} blocks at "
            f"the first token and in {other} at another one{kernels}{'' if ran else ': NOT the fused path'}.",
            ran,
        )
    own = sorted({row["operation"] for row in turn.profile if _FUSED_MOE.search(row["operation"]) and not row["ours"]})
    if own:
        return f"{turn.variant}: the plugin ran a fused MoE of its own: {', '.join(own)}.", True
    return f"{turn.variant}: the plugin's profile shows no fused MoE, neither ov-moe's nor the plugin's own.", True


def unproven(reasons: Mapping[str, str]) -> list[str]:
    """A sentence for each variant whose profiling turn failed, from the reasons by variant."""
    return [f"{variant}: NOT proven what ran, for its profile failed: {reason}" for variant, reason in reasons.items()]


def short_prompts(summaries: Sequence[Summary], job: Job) -> list[str]:
    """A sentence where a prompt is so short that the switch changes nothing."""
    short = sorted({each.input_size for each in summaries if each.input_size * job.batch <= job.few_tokens})
    if not short or all(each.variant == "unfused" for each in summaries):
        return []
    return [
        f"Prompts of {', '.join(map(str, short))} tokens, batch {job.batch}: up to {job.few_tokens} tokens at a time "
        "take the path for decode, where balance off and on are the same; give longer ones to compare them."
    ]


def outputs(summaries: Sequence[Summary]) -> list[str]:
    """One sentence for each variant whose output is not the first variant's, or one that all agree."""
    reference = summaries[0].variant
    found: list[str] = []
    for each in summaries:
        if each.same_output:
            continue
        if len(each.md5) > 1:
            what = f"gave {len(each.md5)} different outputs in its own iterations"
        else:
            what = f"gave another output than {reference}"
        found.append(
            f"DIFFERENT: {each.variant} {what} on prompt {each.prompt}; its logits deviate by {each.logits_error:.1e} "
            "of the largest. Rounding can tip a close call between two tokens; a large deviation is a wrong variant."
        )
    if found:
        return found
    worst = max((each.logits_error for each in summaries[1:]), default=0.0)
    many = "The same output from every variant in every iteration (md5)"
    return [f"{many}; logits deviate by at most {worst:.1e} of the largest."]


def failure(summaries: Sequence[Summary], proven: Sequence[tuple[str, bool]], max_error: float | None) -> str | None:
    """Why the measurement is none, as one sentence; None where it is one."""
    for sentence, right in proven:
        if not right:
            return sentence
    for each in summaries:
        if not math.isfinite(each.logits_error):
            return f"The logits of {each.variant} on prompt {each.prompt} are not finite: its times are worth nothing."
        if max_error is not None and each.logits_error > max_error:
            return (
                f"The logits of {each.variant} on prompt {each.prompt} deviate by {each.logits_error:.1e}, more than "
                f"{max_error:.1e}: it does not compute the same model."
            )
    return None
