"""Rewrites a model in place: find the blocks, replace each by a static island, report."""

from __future__ import annotations

from dataclasses import asdict

import openvino as ov

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.config import choose_schedule
from ov_moe.report import Report, RewrittenBlock, SkippedBlock
from ov_moe.spec import Balance
from ov_moe.transformations.block import MoEBlock
from ov_moe.transformations.constant_ids import computed_blocks
from ov_moe.transformations.families import find_blocks
from ov_moe.transformations.rewrite import replace_blocks

# Tokens the buffers have room for. Longer prompts are computed in chunks of this size.
DEFAULT_MAX_TOKENS = 1024


def optimize(model: ov.Model, balance: Balance = "auto", *, max_tokens: int = DEFAULT_MAX_TOKENS) -> Report:
    """Replace the MoE blocks of a model by ov-moe's operations, in place.

    Args:
        model: A model as read from an IR.
        balance: How prefill shares its work out: ``on`` = persistent pool of work-groups, ``off`` = grid,
            ``auto`` = pool from 64 experts on. Results are bit-identical.
        max_tokens: Tokens (batch x sequence) that a block's buffers have room for; longer prompts are computed
            in chunks. More room costs memory, and time for padding.

    Returns:
        What was rewritten, and what was left alone with the reason. A block that is not recognised stays as
        it was; so does a model without any.

    Raises:
        InvalidInputError: The model is no ov.Model, or an argument is out of range; the model is unchanged.
    """
    if not isinstance(model, ov.Model):
        raise InvalidInputError(f"optimize takes an openvino.Model, this is {type(model).__name__}: read the IR first.")
    choose_schedule(balance, 1)
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or not 1 <= max_tokens <= 65536:
        raise InvalidInputError(f"max_tokens is {max_tokens!r}, it must be a whole number from 1 to 65536.")
    blocks, skipped = computed_blocks(*find_blocks(model))
    replace_blocks(blocks, max_tokens, balance)
    if blocks:
        model.validate_nodes_and_infer_types()
    return Report(
        rewritten=tuple(_describe(block) for block in blocks),
        skipped=tuple(SkippedBlock(**asdict(region)) for region in skipped),
        balance=balance,
        max_tokens=max_tokens,
    )


def _describe(block: MoEBlock) -> RewrittenBlock:
    parts = {"gate": block.gate, "up": block.up, "down": block.down}
    if block.up is None:
        parts = {"gate and up": block.gate, "down": block.down}
    precision = {name: part.spec.label() for name, part in parts.items() if part is not None}
    return RewrittenBlock(block.name, block.experts, block.top_k, block.hidden, block.intermediate, precision)
