"""Rewrites a model in place: find the blocks, replace each by a static island, report."""

from __future__ import annotations

from dataclasses import asdict

import openvino as ov

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.choose import choose_schedule
from ov_moe.report import Report, RewrittenBlock, SkippedBlock
from ov_moe.spec import Balance
from ov_moe.transformations.block import MoEBlock
from ov_moe.transformations.constant_ids import computed_blocks
from ov_moe.transformations.families import find_blocks
from ov_moe.transformations.operations import moe_operations
from ov_moe.transformations.rewrite import Rewrite

# Tokens of a chunk of prefill. Each block's loop has buffers of its own: 27 MB a block for Qwen3-30B in f16, and each
# chunk reads the weights of its experts once: on a GPU of 50 TFLOP/s and 456 GB/s both take about 0.7 ms a block.
DEFAULT_MAX_TOKENS = 512
# Room of a decode step: 64 rows of Qwen3-30B's x in 48 layers are 12.6 MB a step, 1024 would be 201 MB.
DEFAULT_FEW_TOKENS = 64


def optimize(
    model: ov.Model,
    balance: Balance = "auto",
    *,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    few_tokens: int = DEFAULT_FEW_TOKENS,
) -> Report:
    """Replace the MoE blocks of a model by ov-moe's operations, in place.

    Args:
        model: A model as read from an IR.
        balance: How prefill shares its work out: ``on`` = persistent pool of work-groups, ``off`` = grid,
            ``auto`` = pool from 64 experts on. Results are bit-identical.
        max_tokens: Tokens (batch x sequence) of prefill that are computed at a time; longer prompts run in chunks
            of this size. More room costs memory.
        few_tokens: Up to as many tokens (decode, small batches) run without a loop, padded to this number. It costs
            a decode step this many rows of x a block.

    Returns:
        What was rewritten, and what was left alone with the reason. A block that is not recognised stays as
        it was; so does a model without any. Called again on the same model it changes nothing and says so.

    Raises:
        InvalidInputError: The model is no ov.Model, or an argument is out of range; the model is unchanged.
    """
    _check_count("few_tokens", few_tokens)
    blocks, report = _find(model, balance, max_tokens)
    Rewrite(min(few_tokens, max_tokens), max_tokens, balance).apply(blocks)
    if blocks:
        model.validate_nodes_and_infer_types()
    return report


def survey(model: ov.Model, balance: Balance = "auto", *, max_tokens: int = DEFAULT_MAX_TOKENS) -> Report:
    """What ``optimize`` would report; the model stays as it is and no weights are read."""
    return _find(model, balance, max_tokens)[1]


def _find(model: ov.Model, balance: Balance, max_tokens: int) -> tuple[list[MoEBlock], Report]:
    """The blocks that can be rewritten, and the report on them; raises as ``optimize`` does."""
    if not isinstance(model, ov.Model):
        raise InvalidInputError(f"optimize takes an openvino.Model, this is {type(model).__name__}: read the IR first.")
    choose_schedule(balance, 1)
    _check_count("max_tokens", max_tokens)
    blocks, skipped = computed_blocks(*find_blocks(model))
    report = Report(
        rewritten=tuple(_describe(block) for block in blocks),
        skipped=tuple(SkippedBlock(**asdict(region)) for region in skipped),
        balance=balance,
        max_tokens=max_tokens,
        already=len({str(node.get_attributes()["layer"]) for node in moe_operations(model)}),
    )
    return blocks, report


def _check_count(name: str, count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 65536:
        raise InvalidInputError(f"{name} is {count!r}, it must be a whole number from 1 to 65536.")


def _describe(block: MoEBlock) -> RewrittenBlock:
    parts = {"gate": block.gate, "up": block.up, "down": block.down}
    if block.up is None:
        parts = {"gate and up": block.gate, "down": block.down}
    precision = {name: part.spec.label() for name, part in parts.items() if part is not None}
    return RewrittenBlock(block.name, block.experts, block.top_k, block.hidden, block.intermediate, precision)
