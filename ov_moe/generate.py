"""A minimal greedy generator for stateful language models, as optimum-intel exports them.

It is what the demo, the latency benchmark and the trace run, on token ids and without a tokenizer; for real use take
optimum-intel or openvino-genai. All rows of a batch have the same length: there is no padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import openvino as ov

from .errors import InvalidInputError
from .openvino_errors import translated

Tokens: TypeAlias = npt.NDArray[np.int64]
Logits: TypeAlias = npt.NDArray[np.float32]

_INPUTS = ("input_ids", "attention_mask", "position_ids", "beam_idx")


@dataclass(frozen=True)
class Timings:
    """Wall-clock times of one generation, in seconds.

    Attributes:
        prefill_s: The whole prompt, up to the first new token.
        decode_s: Each further token, in order; one entry fewer than there are new tokens.
    """

    prefill_s: float
    decode_s: list[float] = field(default_factory=list)


class Step(NamedTuple):
    """One step of a greedy generation.

    Attributes:
        logits: float32 [B,S,V], as ``Session.step`` gives them.
        tokens: int64 [B,1], the most likely next ones.
        infer_s: Seconds that the model took.
        step_s: The same with the choice of the tokens.
    """

    logits: Logits
    tokens: Tokens
    infer_s: float
    step_s: float


class Session:
    """One sequence, or a batch of equally long ones, on a compiled stateful model.

    The key-value cache lives in an infer request of its own, so that sessions on one compiled model do not
    disturb each other. A session serves one thread at a time. After an exception from ``step`` the cache is
    in no known state: call ``reset``.
    """

    def __init__(self, compiled: ov.CompiledModel, batch: int = 1) -> None:
        """Opens a session with an empty cache.

        Args:
            compiled: A stateful model that takes input_ids i64 [B,S] and, where it has them, attention_mask
                i64 [B,past+S], position_ids i64 [B,S] and beam_idx i32 [B], and gives logits [B,S,V].
            batch: Number of sequences (B).

        Raises:
            InvalidInputError: The batch is empty; or the model has no input_ids, no logits, no state, or an
                input that is unknown here.
        """
        if batch < 1:
            raise InvalidInputError(f"batch must be at least 1, not {batch}.")
        inputs = [_known_name(port) for port in compiled.inputs]
        if "input_ids" not in inputs:
            raise InvalidInputError(
                "The model has no input named input_ids: give a model exported for text generation."
            )
        outputs = [port for port in compiled.outputs if "logits" in port.get_names()]
        if not outputs:
            raise InvalidInputError("The model has no output named logits: give a model exported for text generation.")
        self.batch = batch
        self._inputs = inputs
        self._logits = outputs[0]
        self._request = compiled.create_infer_request()
        if not self._request.query_state():
            raise InvalidInputError(
                "The model keeps no state between steps: export it for text generation with past, stateful."
            )
        shape = self._logits.get_partial_shape()
        static_vocab = len(shape) == 3 and shape[2].is_static
        self._vocab = shape[2].get_length() if static_vocab else np.iinfo(np.int64).max
        self._length = 0
        self.reset()

    @property
    def length(self) -> int:
        """Number of tokens of each sequence that are in the key-value cache."""
        return self._length

    def reset(self) -> None:
        """Forgets all tokens."""
        self._request.reset_state()
        self._length = 0

    def step(self, input_ids: npt.NDArray[np.int64]) -> Logits:
        """Appends tokens to every sequence.

        Args:
            input_ids: int64 [B,S], S at least 1, each in [0,V).

        Returns:
            The logits after each appended token, float32 [B,S,V], as an array of its own. A model that was
            made to give the last token only returns [B,1,V].

        Raises:
            InvalidInputError: Wrong rank, type, batch or token ids, or no token at all; nothing was appended.
            DeviceError: The inference failed.
        """
        self._check(input_ids)
        size = input_ids.shape[1]
        past, total = self._length, self._length + size
        values: dict[str, npt.NDArray[Any]] = {
            "input_ids": np.ascontiguousarray(input_ids),
            "attention_mask": np.ones((self.batch, total), np.int64),
            "position_ids": np.tile(np.arange(past, total, dtype=np.int64), (self.batch, 1)),
            "beam_idx": np.arange(self.batch, dtype=np.int32),
        }
        with translated("OpenVINO cannot run the model"):
            self._request.infer({name: values[name] for name in self._inputs})
        self._length = total
        return np.array(self._request.get_tensor(self._logits).data, dtype=np.float32)

    def _check(self, input_ids: npt.NDArray[np.int64]) -> None:
        if not isinstance(input_ids, np.ndarray) or input_ids.dtype != np.int64:
            found = input_ids.dtype if isinstance(input_ids, np.ndarray) else type(input_ids).__name__
            raise InvalidInputError(f"input_ids must be a NumPy array of int64, not {found}.")
        if input_ids.ndim != 2:
            raise InvalidInputError(f"input_ids must have rank 2 [B,S], not shape {input_ids.shape}.")
        if input_ids.shape[0] != self.batch:
            raise InvalidInputError(
                f"input_ids has {input_ids.shape[0]} rows, but the session was opened for {self.batch}."
            )
        if input_ids.shape[1] == 0:
            raise InvalidInputError("input_ids is empty: give at least one token for each sequence.")
        low, high = int(input_ids.min()), int(input_ids.max())
        if low < 0 or high >= self._vocab:
            raise InvalidInputError(
                f"input_ids holds {low if low < 0 else high}, outside the vocabulary [0, {self._vocab})."
            )


def greedy(session: Session, prompt: npt.NDArray[np.int64], new_tokens: int) -> tuple[Tokens, Timings]:
    """Resets the session and generates the most likely tokens after a prompt.

    The number of tokens is fixed: no token ends a sequence early. Of equal logits the lowest token id wins.

    Args:
        session: Where to run; its tokens so far are forgotten.
        prompt: int64 [B,S], S at least 1, each in [0,V).
        new_tokens: Tokens to generate for each sequence, at least 1.

    Returns:
        The new tokens, int64 [B,new_tokens], and how long each step took. The last new token is not in the
        cache of the session.

    Raises:
        InvalidInputError: The prompt cannot be served (see ``Session.step``) or new_tokens is below 1.
    """
    if new_tokens < 1:
        raise InvalidInputError(f"new_tokens must be at least 1, not {new_tokens}.")
    session.reset()
    tokens, times = list[Tokens](), list[float]()
    for step in greedy_steps(session.step, prompt, new_tokens):
        tokens.append(step.tokens)
        times.append(step.step_s)
    return np.concatenate(tokens, axis=1), Timings(times[0], times[1:])


def greedy_steps(step: Callable[[Tokens], Logits], prompt: Tokens, count: int) -> Iterator[Step]:
    """Feeds a prompt and then, one at a time, the most likely tokens; what is done between steps is not timed.

    Args:
        step: Of a session, which is not reset here: ``Session.step``, or what does as it does.
        prompt: int64 [B,S].
        count: Steps, the prompt's included.
    """
    ids = prompt
    for _ in range(count):
        start = perf_counter()
        logits = step(ids)
        inferred = perf_counter()
        ids = logits[:, -1:, :].argmax(axis=-1)
        yield Step(logits, ids, inferred - start, perf_counter() - start)


def _known_name(port: ov.ConstOutput) -> str:
    """The name under which an input is fed."""
    rank = {"beam_idx": 1}
    for name in _INPUTS:
        if name in port.get_names():
            if len(port.get_partial_shape()) != rank.get(name, 2):
                raise InvalidInputError(
                    f"The input {name} has shape {port.get_partial_shape()}, not rank {rank.get(name, 2)}: "
                    "only text models are served."
                )
            return name
    raise InvalidInputError(
        f"The model has an input {sorted(port.get_names())} besides {', '.join(_INPUTS)}: only text models "
        "with a stateful key-value cache are served."
    )
