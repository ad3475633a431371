"""Exported models whose experts stand one by one: what is found, and that it computes what the export computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from unrolled_values import block_values, expected_of

from ov_moe.transformations.families import find_blocks
from ov_moe.transformations.sorted import by_expert
from ov_moe.transformations.unrolled import masked

EXPORTS = Path(__file__).resolve().parents[3] / "shared" / "models"
E, K, H, I = 8, 2, 128, 64  # noqa: E741
FOUR_BIT = "u4 g32 asym"
EXPORTED = {
    "tf457-mixtral-e8-int4": ("separate", FOUR_BIT),
    "tf457-qwen2moe-e8-int4": ("separate", FOUR_BIT),
    "granitemoe-e8-fp16": ("halves", "f16"),
    "granitemoe-e8-int4": ("halves", FOUR_BIT),
}
exports = pytest.mark.skipif(not EXPORTS.is_dir(), reason="no folder of exported models beside the repository")


def read(name: str) -> ov.Model:
    return ov.Core().read_model(EXPORTS / name / "openvino_model.xml")


@exports
@pytest.mark.parametrize("name", EXPORTED)
def test_exports_give_two_blocks(name: str) -> None:
    blocks, skipped = find_blocks(read(name))
    assert skipped == []
    assert len(blocks) == 2
    layout, label = EXPORTED[name]
    for block in blocks:
        assert (block.experts, block.top_k, block.hidden, block.intermediate) == (E, K, H, I)
        assert block.layout == layout
        assert {w.spec.label() for w in (block.gate, block.up, block.down) if w is not None} == {label}


@exports
@pytest.mark.parametrize("name", EXPORTED)
def test_the_cut_of_an_export_computes_its_output(name: str) -> None:
    model = read(name)
    blocks, _ = find_blocks(model)
    tokens = np.random.default_rng(51).integers(0, 512, (2, 7))
    inputs = {
        "input_ids": tokens,
        "attention_mask": np.ones_like(tokens),
        "position_ids": np.tile(np.arange(7), (2, 1)),
        "beam_idx": np.arange(2, dtype=np.int32),
    }
    known = {name for value in model.inputs for name in value.get_names()}
    given = {name: value for name, value in inputs.items() if name in known}
    for block, values in zip(blocks, block_values(ov.Core(), model, blocks, given), strict=True):
        expected = expected_of(block, values)
        assert values.y.shape == expected.shape == (14, H)
        assert np.abs(expected).mean() > 1e-3
        np.testing.assert_allclose(values.y, expected, atol=1e-4 * np.abs(expected).max())


@exports
def test_no_other_export_has_a_region_of_these_families() -> None:
    for path in sorted(EXPORTS.glob("*/openvino_model.xml")):
        if path.parent.name not in EXPORTED:
            model = ov.Core().read_model(path)
            assert masked.find(model) == ([], []), path.parent.name
            assert by_expert.find(model) == ([], []), path.parent.name
