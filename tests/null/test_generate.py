"""The generator on the CPU plugin, with the demo model that the package brings along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov
import pytest

import ov_moe.generate
from ov_moe.errors import InvalidInputError
from ov_moe.generate import Logits, Session, Tokens, greedy, greedy_steps

DEMO = Path(ov_moe.generate.__file__).parent / "demo" / "model"
VOCAB = 256
# Chosen so that neither the likeliest token nor the routing of the second layer is a close call anywhere.
# fmt: off
PROMPT = np.array([[115, 144, 88, 116, 68, 145, 84, 124, 71, 106,
                    242, 117, 195, 57, 220, 32, 79, 50, 191, 232]], np.int64)
# fmt: on


# Without the last two the plugin keeps keys and values in f16 or u8 and quantizes what meets 4-bit weights.
EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}


@pytest.fixture(scope="module")
def compiled() -> ov.CompiledModel:
    core = ov.Core()
    return core.compile_model(core.read_model(DEMO / "openvino_model.xml"), "CPU", EXACT)


def close(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> bool:
    """Equal within f32 rounding, which differs with the shape of a matrix product."""
    return bool(np.abs(left - right).max() <= 5e-5 * np.abs(right).max())


def tiny(inputs: dict[str, list[int]], output: str) -> ov.CompiledModel:
    """A stateless model with inputs i64 of the given shapes; its output copies the first one."""
    parameters = [ov.opset13.parameter(shape, np.int64, name=name) for name, shape in inputs.items()]
    for parameter, name in zip(parameters, inputs, strict=True):
        parameter.output(0).set_names({name})
    copy = ov.opset13.convert(parameters[0], "f32")
    copy.output(0).set_names({output})
    return ov.Core().compile_model(ov.Model([ov.opset13.result(copy)], parameters), "CPU")


def test_demo_model_is_small_and_says_where_it_comes_from() -> None:
    files = {path.name: path.stat().st_size for path in DEMO.iterdir()}
    assert files.keys() >= {"openvino_model.xml", "openvino_model.bin"}
    assert files.keys() >= {"config.json", "generation_config.json"}
    assert sum(files.values()) < 4e6
    assert "scripts/export_tiny_models.py" in (DEMO / "README.md").read_text(encoding="utf-8")


def test_demo_model_keeps_its_experts_in_u4() -> None:
    model = ov.Core().read_model(DEMO / "openvino_model.xml")
    shapes = [
        list(node.get_output_shape(0))
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Constant"
        and node.get_element_type() == ov.Type.u4
        and node.get_output_shape(0)[-1] > 1
    ]
    assert sorted(shapes) == [[64, 64, 4, 32]] * 4 + [[64, 128, 2, 32]] * 2


def test_demo_prompt_has_no_close_calls(compiled: ov.CompiledModel) -> None:
    session = Session(compiled)
    tokens, _ = greedy(session, PROMPT, 12)
    session.reset()
    logits = session.step(np.concatenate([PROMPT, tokens], axis=1))
    ranked = np.sort(logits, axis=-1)
    gap = (ranked[..., -1] - ranked[..., -2]) / np.abs(logits).max(axis=-1)
    assert gap.min() > 2e-3


@pytest.mark.parametrize("first", [1, 7, 19], ids=lambda first: f"{first}-at-once")
def test_incremental_logits_equal_one_shot_logits(compiled: ov.CompiledModel, first: int) -> None:
    session = Session(compiled)
    whole = session.step(PROMPT)
    assert whole.shape == (1, 20, VOCAB)
    assert whole.dtype == np.float32
    session.reset()
    parts = [session.step(PROMPT[:, :first])]
    parts += [session.step(PROMPT[:, i : i + 1]) for i in range(first, 20)]
    assert session.length == 20
    assert close(np.concatenate(parts, axis=1), whole)


def test_logits_stay_after_the_next_step(compiled: ov.CompiledModel) -> None:
    session = Session(compiled)
    first = session.step(PROMPT[:, :1])
    kept = first.copy()
    session.step(PROMPT[:, 1:2])
    np.testing.assert_array_equal(first, kept)


def test_rows_of_a_batch_do_not_see_each_other(compiled: ov.CompiledModel) -> None:
    both = np.concatenate([PROMPT, PROMPT[:, ::-1]])
    pair, alone = Session(compiled, batch=2), Session(compiled)
    logits = [pair.step(both[:, :12]), pair.step(both[:, 12:])]
    for row in range(2):
        alone.reset()
        assert close(np.concatenate(logits, axis=1)[row], alone.step(both[row : row + 1])[0])
    tokens, _ = greedy(pair, both, 6)
    assert tokens.shape == (2, 6)
    np.testing.assert_array_equal(tokens[:1], greedy(alone, PROMPT, 6)[0])


def test_sessions_on_one_model_do_not_see_each_other(compiled: ov.CompiledModel) -> None:
    left, right = Session(compiled), Session(compiled)
    left.step(PROMPT[:, :5])
    right.step(PROMPT[:, 9:12])
    joined = left.step(PROMPT[:, 5:])
    left.reset()
    assert close(joined, left.step(PROMPT)[:, 5:])


def test_greedy_is_deterministic_and_follows_the_logits(compiled: ov.CompiledModel) -> None:
    session = Session(compiled)
    tokens, timings = greedy(session, PROMPT, 8)
    assert tokens.shape == (1, 8)
    assert tokens.dtype == np.int64
    assert timings.prefill_s > 0
    assert len(timings.decode_s) == 7
    assert min(timings.decode_s) > 0
    again, _ = greedy(session, PROMPT, 8)  # on the used session: greedy starts afresh
    np.testing.assert_array_equal(again, tokens)
    session.reset()
    logits = session.step(np.concatenate([PROMPT, tokens], axis=1))
    np.testing.assert_array_equal(logits[:, 19:-1].argmax(axis=-1), tokens)


def test_each_step_is_fed_what_the_one_before_chose(compiled: ov.CompiledModel) -> None:
    session, fed = Session(compiled), list[Tokens]()

    def step(ids: Tokens) -> Logits:
        fed.append(ids)
        return session.step(ids)

    steps = list(greedy_steps(step, PROMPT, 4))
    assert session.length == PROMPT.shape[1] + 3
    for ids, expected in zip(fed, [PROMPT, *(one.tokens for one in steps[:3])], strict=True):
        np.testing.assert_array_equal(ids, expected)
    for one in steps:
        np.testing.assert_array_equal(one.tokens[:, 0], one.logits[:, -1].argmax(axis=-1))
        assert 0 < one.infer_s <= one.step_s


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (PROMPT[0], "rank 2"),
        (PROMPT[None], "rank 2"),
        (PROMPT.astype(np.int32), "int64, not int32"),
        (PROMPT.tolist(), "int64, not list"),
        (PROMPT[:, :0], "empty"),
        (np.repeat(PROMPT, 2, axis=0), "2 rows"),
        (np.array([[VOCAB]]), r"256, outside the vocabulary \[0, 256\)"),
        (np.array([[3, -1]]), "holds -1"),
    ],
)
def test_wrong_input_ids_are_refused_and_change_nothing(
    compiled: ov.CompiledModel, wrong: npt.NDArray[np.int64], says: str
) -> None:
    session = Session(compiled)
    session.step(PROMPT[:, :3])
    with pytest.raises(InvalidInputError, match=says):
        session.step(wrong)
    assert session.length == 3
    rest = session.step(PROMPT[:, 3:])
    session.reset()
    assert close(rest, session.step(PROMPT)[:, 3:])
    with pytest.raises(InvalidInputError, match=says):
        greedy(session, wrong, 1)


def test_counts_below_one_are_refused(compiled: ov.CompiledModel) -> None:
    with pytest.raises(InvalidInputError, match="batch"):
        Session(compiled, batch=0)
    with pytest.raises(InvalidInputError, match="new_tokens"):
        greedy(Session(compiled), PROMPT, 0)


@pytest.mark.parametrize(
    ("inputs", "output", "says"),
    [
        ({"attention_mask": [1, 2]}, "logits", "no input named input_ids"),
        ({"input_ids": [1, 2]}, "hidden", "no output named logits"),
        ({"input_ids": [1, 2]}, "logits", "no state"),
        ({"input_ids": [1, 2], "past": [1, 2]}, "logits", r"an input \['past'\] besides"),
        ({"input_ids": [1, 2], "position_ids": [3, 1, 2]}, "logits", "position_ids has shape"),
    ],
)
def test_models_that_cannot_be_served_are_refused(inputs: dict[str, list[int]], output: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        Session(tiny(inputs, output))
