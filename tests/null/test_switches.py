"""The switch of a model: stored once, wherever the model goes; whatever a file has in its place is refused."""

from __future__ import annotations

import re
from pathlib import Path

import openvino as ov
import pytest
from openvino import opset13 as ops

from ov_moe.errors import InvalidInputError
from ov_moe.transformations.switches import balance_of, set_balance


def a_model() -> ov.Model:
    x = ops.parameter([1, 2], ov.Type.f32)
    return ov.Model([ops.result(ops.relu(x))], [x])


def saved(model: ov.Model, folder: Path, section: str | None = None) -> ov.Model:
    """What comes back from a file, in which ``section`` may stand for ov-moe's part of the rt_info."""
    path = folder / "model.xml"
    ov.save_model(model, path)
    if section is not None:
        text, count = re.subn("<ov_moe>.*</ov_moe>", section, path.read_text(), flags=re.DOTALL)
        assert count == 1
        path.write_text(text)
    return ov.Core().read_model(path)


def test_a_model_without_a_switch_is_auto() -> None:
    assert balance_of(a_model()) == "auto"


@pytest.mark.parametrize("balance", ["on", "off", "auto"])
def test_it_goes_where_the_model_goes(balance: str, tmp_path: Path) -> None:
    model = a_model()
    set_balance(model, "auto")
    set_balance(model, balance)  # type: ignore[arg-type]
    copies = [model, model.clone(), saved(model, tmp_path), saved(saved(model, tmp_path).clone(), tmp_path)]
    model.reshape([3, 2])
    assert [balance_of(copy) for copy in copies] == [balance] * 4
    assert (tmp_path / "model.xml").read_text().count(f'<balance value="{balance}"') == 1


@pytest.mark.parametrize(
    "section",
    [
        '<ov_moe><balance value="maybe"/></ov_moe>',
        '<ov_moe><balance value=""/></ov_moe>',
        '<ov_moe><balance value="on&#10;#error injected"/></ov_moe>',
        '<ov_moe><balance value="(*(volatile global int *)0xdeadUL = 1, 1.0f)"/></ov_moe>',
        f'<ov_moe><balance value="{"on" * 100_000}"/></ov_moe>',
        "<ov_moe><balance/></ov_moe>",
        '<ov_moe><balance><on value="on"/></balance></ov_moe>',
        '<ov_moe value="on and off"/>',
    ],
    ids=lambda section: section[:60],
)
def test_what_a_file_says_instead_is_refused(section: str, tmp_path: Path) -> None:
    model = a_model()
    set_balance(model, "on")
    read = saved(model, tmp_path, section)
    with pytest.raises(InvalidInputError, match=r"^balance is .*, it must be 'auto', 'on' or 'off'\.$") as error:
        balance_of(read)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
    set_balance(read, "off")
    assert balance_of(read) == "off"


@pytest.mark.parametrize("section", ["", "<ov_moe/>", '<ov_moe><colour value="red"/></ov_moe>'], ids=repr)
def test_a_file_that_says_nothing_of_it(section: str, tmp_path: Path) -> None:
    model = a_model()
    set_balance(model, "on")
    assert balance_of(saved(model, tmp_path, section)) == "auto"


def test_a_word_of_another_type_is_refused() -> None:
    model = a_model()
    for value in (True, 1, 1.0, ["on"]):
        model.set_rt_info(value, ["ov_moe", "balance"])
        with pytest.raises(InvalidInputError, match="balance is "):
            balance_of(model)
