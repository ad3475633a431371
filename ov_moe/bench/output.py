"""The results as CSV (one row an iteration, llm_bench's column names) and as JSON (everything)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from ov_moe.bench.job import Iteration, Job, Turn
from ov_moe.bench.summary import Summary
from ov_moe.options import Config

# Raised when a field of the JSON changes its meaning or goes.
SCHEMA_VERSION = 1

_MIB = 2**20


@dataclass(frozen=True)
class Measurement:
    """Everything that a run of ``ov-moe bench`` found.

    Attributes:
        job: What all turns share; its ``variant`` is the first one.
        config: The options in force.
        turns: In the order in which they ran.
        profiles: The profiling turns.
        summaries: One for each variant and prompt.
        verdict: What may be said about it.
        command: The command line, to run it again.
        planned: The variants of all timed turns, in order; more than ``turns`` where the run ended early.
        stopped: Why it ended early, a sentence; None where it did not.
        unproven: Variants whose profiling turn failed, and why.
    """

    job: Job
    config: Config
    turns: Sequence[Turn]
    profiles: Sequence[Turn]
    summaries: Sequence[Summary]
    verdict: Sequence[str]
    command: str
    planned: Sequence[str] = ()
    stopped: str | None = None
    unproven: Mapping[str, str] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """The device, its driver and all versions."""
        return self.turns[0].facts


def to_csv(measurement: Measurement) -> str:
    """One row for each generation; iteration 0 is warm-up, as in llm_bench, and times are NaN where there is none."""
    out = io.StringIO()
    rows = [
        _row(measurement, number, turn, each)
        for number, turn in enumerate(measurement.turns, start=1)
        for each in turn.iterations
    ]
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _row(measurement: Measurement, number: int, turn: Turn, each: Iteration) -> dict[str, object]:
    job = measurement.job
    total_ms = each.first_ms + sum(each.other_ms)
    return {
        "iteration": each.iteration,
        "model": job.folder.name,
        "framework": "ov-moe",
        "device": job.device,
        "variant": turn.variant,
        "turn": number,
        "run_complete": measurement.stopped is None,
        "prompt_idx": each.prompt,
        "batch_size": job.batch,
        "pretrain_time(s)": round(turn.load_s + turn.compile_s, 5),
        "compile_time(s)": round(turn.compile_s, 5),
        "input_size": each.input_size,
        "infer_count": job.new_tokens,
        "generation_time(s)": round(total_ms / 1e3, 5),
        "output_size": each.output_size,
        "latency(ms)": round(total_ms / each.output_size, 5),
        "1st_latency(ms)": round(each.first_ms, 5),
        "2nd_avg_latency(ms)": _mean(each.other_ms),
        "1st_infer_latency(ms)": round(each.first_infer_ms, 5),
        "2nd_infer_avg_latency(ms)": _mean(each.other_infer_ms),
        "max_rss_mem(MB)": "" if each.rss is None else round(each.rss / _MIB, 2),
        "device_mem(MB)": round(sum(each.device_bytes.values()) / _MIB, 2) if each.device_bytes else "",
        "tokenization_time": round(each.tokenization_ms, 5),
        "result_md5": each.md5,
    }


def _mean(values: Sequence[float]) -> float | str:
    return round(fmean(values), 5) if values else "NA"


def to_json(measurement: Measurement) -> str:
    """Everything, times in milliseconds, sizes in bytes."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "command": measurement.command,
        "facts": measurement.facts,
        "config": {option.name: option.value for option in measurement.config.options()},
        "job": asdict(measurement.job),
        "order": [turn.variant for turn in measurement.turns],
        "planned": list(measurement.planned),
        "complete": measurement.stopped is None,
        "stopped": measurement.stopped,
        "unproven": dict(measurement.unproven),
        "verdict": list(measurement.verdict),
        "summary": [asdict(summary) for summary in measurement.summaries],
        "turns": [_turn(turn) for turn in measurement.turns],
        "profiles": [
            {"variant": turn.variant, "proof": turn.proof, "wall_ms": turn.wall_ms, "rows": turn.profile}
            for turn in measurement.profiles
        ],
    }
    return json.dumps(_plain(content), indent=1) + "\n"


def _turn(turn: Turn) -> dict[str, Any]:
    left_out = ("logits", "profile", "proof", "wall_ms", "facts")
    return {name: value for name, value in asdict(turn).items() if name not in left_out}


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
