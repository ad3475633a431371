"""Runs a compiled model a few times, so that a user's first prompt does not wait for what is built on demand.

ov-moe's own kernels are all built at compile time. What is left is the plugin's: kernels for single shapes that it
builds in the background, and memory that it takes at the first inference of a size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from rich.progress import track

from ov_moe.errors import InvalidInputError
from ov_moe.generate import Session

# A decode step follows each prompt. 64 and 65 stand on either side of the default few_tokens.
PROMPT_LENGTHS = (1, 64, 65, 256)


def warmup(
    compiled: ov.CompiledModel,
    prompt_lengths: Sequence[int] = PROMPT_LENGTHS,
    *,
    inputs: Iterable[Mapping[str, Any]] | None = None,
    progress: bool = True,
) -> int:
    """Run prompts of several lengths and a decode step behind each; shows a progress bar.

    Args:
        compiled: A language model with input_ids, logits and a state, or any model where ``inputs`` is given.
        prompt_lengths: Tokens of each prompt.
        inputs: Inputs by name for one inference each, instead of prompts.
        progress: Whether to show the bar.

    Returns:
        Number of inferences.

    Raises:
        InvalidInputError: The model is no language model and ``inputs`` is missing, or a length is below 1.
    """
    if inputs is not None:
        request = compiled.create_infer_request()
        batches = list(inputs)
        for values in track(batches, "Warming up", disable=not progress):
            request.infer(dict(values))
        return len(batches)
    if any(length < 1 for length in prompt_lengths):
        raise InvalidInputError(f"prompt_lengths are {list(prompt_lengths)}, each must be at least 1.")
    session = Session(compiled)
    for length in track(list(prompt_lengths), "Warming up", disable=not progress):
        session.reset()
        session.step(np.zeros((1, length), np.int64))
        session.step(np.zeros((1, 1), np.int64))
    return 2 * len(prompt_lengths)
