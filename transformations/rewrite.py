"""Puts islands in the place of matched blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import openvino as ov
from openvino import opset13 as ops

from .block import MoEBlock
from .chunks import in_chunks
from .island import Tokens, few_tokens_of, island_of
from .lengths import Lengths, lengths_of
from .nodes import first_rows, reshaped
from .same_tokens import token_sources


@dataclass
class Rewrite:
    """One pass over a model's blocks.

    Attributes:
        few_tokens: Up to as many tokens take the decode island.
        max_tokens: More than that run in chunks of this size.
    """

    few_tokens: int
    max_tokens: int
    _lengths: dict[str, Lengths] = field(default_factory=dict)
    _replaced: dict[str, ov.Output] = field(default_factory=dict)

    def apply(self, blocks: Sequence[MoEBlock]) -> None:
        """Redirect every consumer of the blocks' outputs to new islands; the old nodes fall away.

        Args:
            blocks: In the order of the graph. Where one cannot be built, the model stays as it was.
        """
        for block, source in zip(blocks, token_sources(blocks), strict=True):
            before = block.x.get_node().get_name()
            # A block may stand directly on the one before it.
            current = replace(block, x=self._replaced[before]) if before in self._replaced else block
            self._replaced[block.output.get_node().get_name()] = self._build(current, source)
        for block in blocks:
            replacement = self._replaced[block.output.get_node().get_name()]
            replacement.get_node().set_friendly_name(block.output.get_node().get_friendly_name())
            replacement.get_tensor().set_names(block.output.get_names())
            for target in block.output.get_target_inputs():
                target.replace_source_output(replacement)

    def _build(self, block: MoEBlock, source: str) -> ov.Output:
        tokens = Tokens(
            _rows(block.x, block.hidden),
            _rows(ops.convert(block.topk_ids, "i32").output(0), block.top_k),
            _rows(block.topk_weights, block.top_k),
        )
        y = self._y(block, tokens, source)
        return y if block.output_shape is None else reshaped(y, block.output_shape)

    def _y(self, block: MoEBlock, tokens: Tokens, source: str) -> ov.Output:
        """y [T, H]."""
        known = tokens.x.get_partial_shape()[0]
        if known.is_static and 1 <= known.get_length() <= self.max_tokens:
            island = island_of(block, known.get_length())
            few = known.get_length() <= self.few_tokens
            return replace(island, decode=few).place(tokens, island.weights)
        if source not in self._lengths:
            self._lengths[source] = lengths_of(tokens.x, self.few_tokens, self.max_tokens)
        lengths = self._lengths[source]
        island = island_of(block, self.max_tokens)
        if known.is_static and known.get_length() > self.few_tokens:
            # A decode island for nobody makes the CPU plugin (2026.4.1) fail: "Topological order is required".
            return in_chunks(island, tokens, lengths)
        decode = few_tokens_of(island, self.few_tokens)
        few = first_rows(decode.place(tokens.padded(lengths.few_begin, lengths.few_end), decode.weights), lengths.few)
        return ops.concat([few, in_chunks(island, tokens, lengths)], 0).output(0)


def _rows(value: ov.Output, columns: int) -> ov.Output:
    """[..., columns] as [T, columns]; the same node where it has rank 2 already."""
    return value if len(value.get_partial_shape()) == 2 else reshaped(value, [-1, columns])
