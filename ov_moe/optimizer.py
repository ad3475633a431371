"""Rewrites a model in place: find the blocks, replace each by a static island, report."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace

import openvino as ov

from ov_moe.errors import InvalidInputError
from ov_moe.kernels.attributes import layer_name
from ov_moe.options import Config
from ov_moe.report import Report, RewrittenBlock, SkippedBlock
from ov_moe.spec import Balance
from ov_moe.transformations.block import MoEBlock, Skipped
from ov_moe.transformations.constant_ids import computed_blocks
from ov_moe.transformations.families import find_blocks
from ov_moe.transformations.island import spec_of
from ov_moe.transformations.operations import layer_of, moe_operations
from ov_moe.transformations.rewrite import Rewrite
from ov_moe.transformations.switches import set_balance


def optimize(
    model: ov.Model,
    balance: Balance | None = None,
    *,
    max_tokens: int | None = None,
    few_tokens: int | None = None,
) -> Report:
    """Replace the MoE blocks of a model by ov-moe's operations, in place.

    An argument that is None follows its OV_MOE_* variable, and without one its default in ``ov_moe.Config``.

    Args:
        model: A model as read from an IR.
        balance: How prefill shares its work out: ``on`` = persistent pool of work-groups, ``off`` = grid,
            ``auto`` = pool from 64 experts on. Results are bit-identical. The model keeps it for all
            of its blocks: where several calls rewrite some each, the last one's counts.
        max_tokens: Tokens (batch x sequence) of prefill that are computed at a time; longer prompts run in chunks
            of this size. More room costs memory.
        few_tokens: Up to as many tokens (decode, small batches) run without a loop, padded to this number. It costs
            a decode step this many rows of x a block.

    Returns:
        What was rewritten, and what was left alone with the reason. A block that is not recognised stays as
        it was; so does a model without any. Called again on the same model it changes nothing and says so.

    Raises:
        InvalidInputError: The model is no ov.Model, or an argument or variable is out of range; the model is unchanged.
    """
    config = Config.from_environment(balance=balance, max_tokens=max_tokens, few_tokens=few_tokens)
    blocks, report = _find(model, config)
    Rewrite(config.few_tokens, config.max_tokens).apply(blocks)
    if blocks:
        set_balance(model, config.balance)
        model.validate_nodes_and_infer_types()
    return report


def survey(
    model: ov.Model,
    balance: Balance | None = None,
    *,
    max_tokens: int | None = None,
    few_tokens: int | None = None,
) -> Report:
    """What ``optimize`` would report; the model stays as it is and no weights are read."""
    return _find(model, Config.from_environment(balance=balance, max_tokens=max_tokens, few_tokens=few_tokens))[1]


def _find(model: ov.Model, config: Config) -> tuple[list[MoEBlock], Report]:
    """The blocks that can be rewritten, and the report on them; raises as ``optimize`` does."""
    if not isinstance(model, ov.Model):
        raise InvalidInputError(f"optimize takes an openvino.Model, this is {type(model).__name__}: read the IR first.")
    blocks, skipped = _that_fit(*computed_blocks(*find_blocks(model)), config.max_tokens)
    layers = set(map(layer_of, moe_operations(model)))
    blocks = _with_names_of_their_own(blocks, layers)
    report = Report(
        rewritten=tuple(_describe(block, config.max_tokens) for block in blocks),
        skipped=tuple(SkippedBlock(**asdict(region)) for region in skipped),
        balance=config.balance,
        max_tokens=config.max_tokens,
        already=len(layers),
    )
    return blocks, report


def _that_fit(blocks: list[MoEBlock], skipped: list[Skipped], max_tokens: int) -> tuple[list[MoEBlock], list[Skipped]]:
    """The blocks that can be described to the kernels; the others join ``skipped``."""
    fit, rest = list[MoEBlock](), list(skipped)
    for block in blocks:
        try:
            spec_of(block, max_tokens).attributes()
        except InvalidInputError as error:
            rest.append(Skipped(layer_name(block.name), str(error)))
        else:
            fit.append(block)
    return fit, rest


def _with_names_of_their_own(blocks: list[MoEBlock], taken: set[str]) -> list[MoEBlock]:
    """Blocks whose names are no others': names tell the operations of blocks apart, and nodes may share one.

    The plugin writes them into programs: no character in them ends a line.
    """
    used, named = set(taken), []
    for block in blocks:
        stem = layer_name(block.name)
        names = (stem if count == 1 else f"{stem}#{count}" for count in itertools.count(1))
        name = next(name for name in names if name not in used)
        used.add(name)
        named.append(block if name == block.name else replace(block, name=name))
    return named


def _describe(block: MoEBlock, max_tokens: int) -> RewrittenBlock:
    parts = {"gate": block.gate, "up": block.up, "down": block.down}
    if block.up is None:
        parts = {"gate and up": block.gate, "down": block.down}
    precision = {name: part.spec.label() for name, part in parts.items() if part is not None}
    sizes = (block.experts, block.top_k, block.hidden, block.intermediate)
    spec = spec_of(block, max_tokens)
    exponents = tuple(name for name, some in (("h", spec.h_exponents), ("d", spec.d_exponents)) if some)
    return RewrittenBlock(block.name, *sizes, precision, exponents)
