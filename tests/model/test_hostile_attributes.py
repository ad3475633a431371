"""A saved model whose operations carry what ov-moe never wrote: nothing of it reaches a compiler."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openvino as ov
import pytest
from blocks_on_plugin import F32, SMALL

import ov_moe
from ov_moe.errors import InvalidInputError
from ov_moe.folder.read import new_core, read
from ov_moe.kernels.block import BlockSpec
from ov_moe.spec import ProjectionSpec
from ov_moe.testing.graphs import moe_block_model
from ov_moe.transformations.operations import moe_operations

CODE = "(*(volatile global int *)0xdeadUL = 1, 1.0f)"
_SPEC = ProjectionSpec("u4", 32, 64, 32)
# Every attribute of a block, and those that each operation has.
NAMES = sorted({*BlockSpec(8, 2, 4, _SPEC, _SPEC, ProjectionSpec("u4", 64, 32, 32)).attributes(), "build"})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rewritten model on disk: 16 or fewer tokens, no loop, whose body OpenVINO writes as text of its own."""
    model, _ = moe_block_model(rng=np.random.default_rng(7), precision="u4", **SMALL)
    assert ov_moe.optimize(model, "on", max_tokens=16, few_tokens=4).rewritten
    path = tmp_path_factory.mktemp("hostile") / "openvino_model.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def changed(saved: Path, folder: Path, old: str, new: str) -> Path:
    """The saved model with every place of a text (a regular expression) replaced."""
    text, count = re.subn(old, new.replace("\\", r"\\"), saved.read_text(encoding="utf-8"))
    assert count
    path = folder / saved.name
    path.write_text(text, encoding="utf-8")
    path.with_suffix(".bin").symlink_to(saved.with_suffix(".bin"))
    return path


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gate_bias"])
def test_code_in_an_attribute_is_refused_on_reading(saved: Path, tmp_path: Path, name: str) -> None:
    path = changed(saved, tmp_path, rf' {name}="[^"]*"', f' {name}="{CODE}"')
    with pytest.raises(InvalidInputError) as error:
        read(new_core(), path)
    assert name in str(error.value) or "must be" in str(error.value) or "cannot read" in str(error.value)
    assert "\n" not in str(error.value)


def test_code_in_the_switch_that_operations_had_is_refused_on_reading(saved: Path, tmp_path: Path) -> None:
    """As in a model of an earlier version."""
    path = changed(saved, tmp_path, ' build="none"', f' build="none" balance="{CODE}"')
    with pytest.raises(InvalidInputError, match="balance is ") as error:
        read(new_core(), path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("word", [CODE, "on&#10;#error injected", "ON", ""])
@pytest.mark.parametrize("device", ["GPU", "CPU"])
def test_another_word_for_the_switch_of_a_model_is_refused(saved: Path, tmp_path: Path, device: str, word: str) -> None:
    path = changed(saved, tmp_path, '<balance value="on"', f'<balance value="{word}"')
    core = new_core()
    model = read(core, path)
    with pytest.raises(InvalidInputError, match=r"balance is .*, it must be 'auto', 'on' or 'off'") as error:
        ov_moe.compile_model(core, model, device)
    assert "\n" not in str(error.value)
    assert {node.get_attributes()["build"] for node in moe_operations(model)} == {"none"}


@pytest.mark.parametrize("end", ["\n", "\r", "\u2028"], ids=repr)
def test_a_name_that_ends_a_line_stays_one_line(end: str, tmp_path: Path) -> None:
    """Of a block in a model that is rewritten now: the plugin writes the operations' names into programs."""
    model, _ = moe_block_model(rng=np.random.default_rng(7), **SMALL)
    total = next(node for node in model.get_ordered_ops() if node.get_friendly_name() == "blocks.0/sum")
    total.set_friendly_name(f"sum{end}#error injected")
    x = np.random.default_rng(3).standard_normal((1, 5, SMALL["hidden"])).astype(np.float32)
    core = ov.Core()
    expected = core.compile_model(model.clone(), "CPU", F32)(x)[0]
    report = ov_moe.optimize(model, "on", max_tokens=16, few_tokens=8)
    assert [block.name for block in report.rewritten] == [f"sum{'_' * len(end)}#error injected"]
    assert all(str(node.get_friendly_name()).isprintable() for node in moe_operations(model))
    fused = ov_moe.compile_model(core, model, "GPU", F32)(x)[0]
    np.testing.assert_allclose(fused, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_saved_name_that_ends_a_line_is_refused(saved: Path, tmp_path: Path) -> None:
    path = changed(saved, tmp_path, r'name="[^"]*/MoEDownDecode"', 'name="down&#10;#error injected"')
    core = new_core()
    model = read(core, path)
    for device in ("GPU", "CPU"):
        with pytest.raises(InvalidInputError, match=r"layer name 'down\\n#error injected'"):
            ov_moe.compile_model(core, model, device)


def test_a_block_too_large_for_the_kernels_is_left_alone() -> None:
    """Huge sizes are a reason in the report, before a buffer is asked for."""
    model, _ = moe_block_model(rng=np.random.default_rng(7), **SMALL)
    before = len(model.get_ops())
    with pytest.MonkeyPatch.context() as patch:
        from ov_moe.kernels import attributes

        patch.setattr(attributes, "_MOST_ELEMENTS", 1000)
        report = ov_moe.optimize(model, "on", max_tokens=16, few_tokens=8)
    assert not report.rewritten
    assert "lower max_tokens" in report.skipped[0].reason
    assert len(model.get_ops()) == before


def test_a_constant_whose_bytes_overflow_is_a_reason(tmp_path: Path) -> None:
    """OpenVINO reads a Constant of 2^62 elements of 8 bytes from no bytes at all: modulo 2^64 that is its size."""
    model, _ = moe_block_model(rng=np.random.default_rng(7), topk_as_inputs=True, **SMALL)
    path = tmp_path / "openvino_model.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    tree = ElementTree.parse(path)
    tile = next(layer for layer in tree.iter("layer") if layer.get("type") == "Tile")
    edge = next(e for e in tree.iter("edge") if (e.get("to-layer"), e.get("to-port")) == (tile.get("id"), "1"))
    repeats = next(layer for layer in tree.iter("layer") if layer.get("id") == edge.get("from-layer"))
    found = repeats.find("data")
    assert found is not None
    found.set("shape", str(2**62))
    found.set("size", "0")
    for dimension in repeats.iter("dim"):
        dimension.text = str(2**62)
    tree.write(path)
    broken = read(new_core(), path)
    report = ov_moe.optimize(broken)
    assert not report.rewritten
    assert f"has the shape [{2**62}], which no memory holds" in report.skipped[0].reason
