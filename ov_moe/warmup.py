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

from ov_moe.arguments import check_type
from ov_moe.errors import InvalidInputError
from ov_moe.generate import Session
from ov_moe.openvino_errors import translated
from ov_moe.options import MAX_TOKENS_LIMIT

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
        prompt_lengths: Tokens of each prompt, from 1 to 65536.
        inputs: Inputs by name for one inference each, instead of prompts.
        progress: Whether to show the bar.

    Returns:
        Number of inferences.

    Raises:
        InvalidInputError: The model is no language model and ``inputs`` is missing, or an argument is of another type
            or out of range.
        DeviceError: An inference failed.
    """
    check_type("compiled", compiled, ov.CompiledModel, "an openvino.CompiledModel, as from ov_moe.compile_model")
    if inputs is not None:
        batches = _listed("inputs", inputs)
        for values in batches:
            check_type("An entry of inputs", values, Mapping, "a mapping of inputs by name")
        request = compiled.create_infer_request()
        for values in track(batches, "Warming up", disable=not progress):
            with translated("OpenVINO cannot run the model"):
                request.infer(dict(values))
        return len(batches)
    lengths = _listed("prompt_lengths", prompt_lengths)
    if not all(_is_length(length) for length in lengths):
        raise InvalidInputError(
            f"prompt_lengths are {lengths}, each must be a whole number from 1 to {MAX_TOKENS_LIMIT}."
        )
    session = Session(compiled)
    for length in track(lengths, "Warming up", disable=not progress):
        session.reset()
        session.step(np.zeros((1, length), np.int64))
        session.step(np.zeros((1, 1), np.int64))
    return 2 * len(lengths)


def _listed(name: str, values: Any) -> list[Any]:
    check_type(name, values, Iterable, "a list")
    return list(values)


def _is_length(value: object) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and 1 <= int(value) <= MAX_TOKENS_LIMIT  # type: ignore[call-overload]
