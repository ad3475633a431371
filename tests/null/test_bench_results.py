"""``ov-moe bench`` without a model: order, percentiles, verdicts, columns."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ov_moe.bench import turns, verdict
from ov_moe.bench.job import Iteration, Job, Turn
from ov_moe.bench.output import Measurement, to_csv, to_json
from ov_moe.bench.summary import Times, summarize
from ov_moe.commands.prompts import Prompt
from ov_moe.options import Config

JOB = Job("/m/model/openvino_model.xml", "GPU", "off", (Prompt(5),), 3, 2, 1, 2, 0, {}, 1024, 64, "ticket", None)
LAUNCHES = {"first token, launches": 8, "first token, work-groups": 9}
FACTS: dict[str, Any] = {"virtual_gpu": True, "device": "GPU", "device_name": "some GPU", "driver": "1.2"}


def iteration(number: int, first: float, others: list[float], md5: str = "aa") -> Iteration:
    return Iteration(number, 0, 5, 3, 0.0, first, first - 1, others, others, md5, 3 * 2**20, {"usm_host": 2**20})


def turn(folder: Path, variant: str, first: list[float], md5: str = "aa", logits: object = (1.0, -4.0)) -> Turn:
    file = folder / f"{variant}-{len(list(folder.iterdir()))}.npz"
    np.savez(file, **{"0": np.array([logits], np.float32)})
    runs = [iteration(0, 999.0, [999.0, 999.0])]
    runs += [iteration(1 + i, ms, [10.0 + i, 30.0 + i], md5) for i, ms in enumerate(first)]
    return Turn(variant, 1.0, 2.0, 2, [], {}, runs, None, str(file), facts=FACTS)


def test_turns_go_forwards_and_backwards() -> None:
    assert turns.abba(["a", "b"], 2) == ["a", "b", "b", "a"]
    assert turns.abba(["a", "b", "c"], 3) == ["a", "b", "c", "c", "b", "a", "a", "b", "c"]


def test_percentiles_are_numpys_and_none_is_nan() -> None:
    values = [float(value) for value in range(1, 101)]
    found = Times.of(values)
    assert (found.count, found.minimum, found.mean) == (100, 1.0, 50.5)
    assert found.percentiles == pytest.approx({50: 50.5, 90: 90.1, 95: 95.05, 99: 99.01})
    assert math.isnan(Times.of([]).percentiles[50])


def test_a_summary_leaves_warm_up_out_and_joins_turns(tmp_path: Path) -> None:
    off = [turn(tmp_path, "off", [10.0, 20.0]), turn(tmp_path, "off", [30.0, 40.0])]
    (found,) = summarize(off, batch=2)
    assert found.first.count == 4
    assert found.first.percentiles[50] == 25.0
    assert found.other.count == 8
    assert found.other.mean == 20.5
    assert found.prefill_rate == pytest.approx(2 * 5 / 0.025)
    assert found.decode_rate == pytest.approx(2 / 0.0205)
    assert (found.rss, found.device_bytes, found.load_s) == (3 * 2**20, {"usm_host": 2**20}, 3.0)
    assert found.same_output
    assert found.logits_error == 0


def test_another_output_is_seen(tmp_path: Path) -> None:
    both = summarize([turn(tmp_path, "off", [1.0]), turn(tmp_path, "on", [1.0], "bb", (1.0, -3.0))], 2)
    assert [each.same_output for each in both] == [True, False]
    assert both[1].logits_error == 0.25
    (said,) = verdict.outputs(both)
    assert said.startswith("DIFFERENT: on gave another output than off on prompt 0; its logits deviate by 2.5e-01")
    assert verdict.failure(both, [], None) is None
    assert "deviate by 2.5e-01, more than 1.0e-01" in str(verdict.failure(both, [], 0.1))


def test_an_output_that_changes_between_turns_is_seen(tmp_path: Path) -> None:
    both = summarize([turn(tmp_path, "on", [1.0]), turn(tmp_path, "on", [1.0], "bb")], 2)
    assert both[0].md5 == ("aa", "bb")
    assert "on gave 2 different outputs in its own iterations" in verdict.outputs(both)[0]


def test_logits_that_are_no_numbers_are_a_failure(tmp_path: Path) -> None:
    both = summarize([turn(tmp_path, "off", [1.0]), turn(tmp_path, "on", [1.0], "aa", (np.nan, 1.0))], 2)
    assert "The logits of on on prompt 0 are not finite" in str(verdict.failure(both, [], None))


@pytest.mark.parametrize(
    ("proof", "right"),
    [
        ({"first token": 2, "other token": 2}, True),
        ({"first token": 2, "other token": 1}, False),
        ({"first token": 0, "other token": 2}, False),
        ({"first token": 2, "other token": 2, "first token, launches": 0, "first token, work-groups": 0}, False),
        ({"first token": 2, "other token": 2, "first token, launches": 8, "first token, work-groups": 9}, True),
        ({"first token": 2, "other token": 2, **LAUNCHES, "other token, launches": 8}, True),
        ({"first token": 2, "other token": 2, **LAUNCHES, "other token, launches": 0}, False),
    ],
)
def test_the_path_is_what_the_profile_shows(tmp_path: Path, proof: dict[str, int], right: bool) -> None:
    profiled = replace(turn(tmp_path, "on", [1.0]), proof=proof)
    sentence, found = verdict.path_of(profiled)
    assert found == right
    assert ("NOT the fused path" in sentence) == (not right)
    assert (verdict.failure(summarize([profiled], 1), [(sentence, found)], None) == sentence) == (not right)


def test_the_plugins_own_fused_moe_is_named(tmp_path: Path) -> None:
    rows = [{"operation": name, "kernel": "k", "ours": False} for name in ("moe_3gemm_fused", "FullyConnected")]
    unfused = replace(
        turn(tmp_path, "unfused", [1.0]), blocks=0, profile=rows, proof={"first token": 0, "other token": 0}
    )
    assert verdict.path_of(unfused) == ("unfused: the plugin ran a fused MoE of its own: moe_3gemm_fused.", True)
    assert "no fused MoE" in verdict.path_of(replace(unfused, profile=rows[1:]))[0]


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"virtual_gpu": True, "device": "GPU"}, "The times are the CPU's and say nothing about any GPU"),
        ({"virtual_gpu": False, "device": "CPU"}, "say nothing about a GPU"),
        ({"virtual_gpu": False, "device": "GPU.1"}, "Times: measured on some GPU, driver 1.2."),
    ],
)
def test_it_is_said_whose_times_these_are(facts: dict[str, Any], says: str) -> None:
    assert says in verdict.whose_times({**FACTS, **facts})


@pytest.mark.parametrize("variant", ["off", "on", "auto"])
def test_prompts_so_short_that_the_switch_does_nothing_are_named(variant: str, tmp_path: Path) -> None:
    short = summarize([turn(tmp_path, "unfused", [1.0]), turn(tmp_path, variant, [1.0])], 2)
    assert "Prompts of 5 tokens, batch 2: up to 64 tokens" in verdict.short_prompts(short, JOB)[0]
    assert verdict.short_prompts(short, replace(JOB, few_tokens=9)) == []
    assert verdict.short_prompts(short[:1], JOB) == []


def test_files_have_llm_benchs_columns_and_everything_is_in_the_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OV_MOE_MAX_TOKENS", "99")  # which an argument came before
    both = [turn(tmp_path, "off", [10.0, 20.0]), turn(tmp_path, "on", [30.0])]
    found = Measurement(
        JOB, Config(max_tokens=77, virtual_gpu=True), both, [], summarize(both, 2), ["said"], "ov-moe bench model"
    )
    rows = list(csv.DictReader(to_csv(found).splitlines()))
    assert [row["iteration"] for row in rows] == ["0", "1", "2", "0", "1"]
    one = rows[1]
    # As llm_bench computes them: milliseconds a token over the whole generation, the first, the mean of the others.
    assert float(one["generation_time(s)"]) == 0.05
    assert float(one["latency(ms)"]) == pytest.approx(50 / 3, abs=1e-4)
    assert (one["1st_latency(ms)"], one["2nd_avg_latency(ms)"], one["1st_infer_latency(ms)"]) == ("10.0", "20.0", "9.0")
    names = "input_size infer_count output_size 2nd_infer_avg_latency(ms) tokenization_time result_md5 max_rss_mem(MB)"
    assert set(names.split()) <= set(one)
    assert (one["variant"], one["max_rss_mem(MB)"], one["device_mem(MB)"]) == ("off", "3.0", "1.0")
    content = json.loads(to_json(found))
    assert content["schema_version"] == 1
    assert content["order"] == ["off", "on"]
    assert content["facts"]["driver"] == "1.2"
    assert (content["config"]["max_tokens"], content["config"]["virtual_gpu"]) == ("77", "on")
    assert content["summary"][0]["first"]["percentiles"]["50"] == 15.0


def test_one_new_token_leaves_no_other(tmp_path: Path) -> None:
    alone = turn(tmp_path, "off", [])
    alone.iterations.append(replace(iteration(1, 5.0, []), output_size=1))
    found = Measurement(replace(JOB, new_tokens=1), Config(), [alone], [], summarize([alone], 1), [], "")
    assert list(csv.DictReader(to_csv(found).splitlines()))[1]["2nd_avg_latency(ms)"] == "NA"
    assert json.loads(to_json(found))["summary"][0]["decode_rate"] is None


def test_jobs_and_turns_survive_the_way_between_processes(tmp_path: Path) -> None:
    from dataclasses import asdict

    job = replace(JOB, prompts=(Prompt(5), Prompt(text="a b")), properties={"A": "B"})
    assert Job.from_json(json.loads(json.dumps(asdict(job)))) == job
    found = turn(tmp_path, "on", [1.0])
    assert Turn.from_json(json.loads(json.dumps(asdict(found)))) == found
