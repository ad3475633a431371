"""One constant [E, N, K] from the matrices of E experts, made only when somebody asks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino.op import Constant

from ov_moe.kernels.formats import FOUR_BIT

from ..not_matched import NotMatched
from ..walk import element_type
from ..weights import ExpertWeights
from .weights import MatrixWeights


class StackedWeights(ExpertWeights):
    """``ExpertWeights`` whose constants are copied together on first access, each once.

    ``spec`` and ``experts`` cost nothing: finding blocks and reporting on them copies no weights. The first
    access to ``values``, ``scale`` or ``zero_point`` allocates that constant, E times the size of one expert's,
    and copies straight into it: no second buffer. So a rewrite needs, above what the model holds, one copy of
    the projections rewritten so far. The experts' own constants go when the last reference to the old nodes
    does; where they lie in a mapped file they take no anonymous memory at all.

    Attributes:
        parts: The experts' matrices, in the order of their ids.
    """

    parts: tuple[MatrixWeights, ...]

    def __init__(self, parts: Sequence[MatrixWeights]) -> None:
        # The base is a frozen dataclass; its other fields are the properties below.
        object.__setattr__(self, "spec", parts[0].spec)
        object.__setattr__(self, "parts", tuple(parts))

    @property
    def experts(self) -> int:
        """E."""
        return len(self.parts)

    @cached_property
    def values(self) -> Constant:
        """[E, N, K] or [E, N, G, group]."""
        return stack_constants([part.values for part in self.parts])

    @cached_property
    def scale(self) -> Constant | None:
        """[E, N, 1] or [E, N, G, 1], or None."""
        return _stack_present([part.scale for part in self.parts])

    @cached_property
    def zero_point(self) -> Constant | None:
        """Like ``scale``, of the element type of ``values``."""
        return _stack_present([part.zero_point for part in self.parts])


def stack(parts: Sequence[MatrixWeights]) -> StackedWeights:
    """The weights of one projection of all experts, copied together only on first access.

    Args:
        parts: One matrix an expert, in the order of their ids; at least one.

    Returns:
        What the matrices are together; ``StackedWeights`` says what its constants cost.

    Raises:
        NotMatched: Naming the first expert that is stored in another way than expert 0.
    """
    wanted = _stored(parts[0])
    for expert, part in enumerate(parts):
        if (found := _stored(part)) != wanted:
            raise NotMatched(f"holds expert {expert} as {found} where expert 0 is {wanted}", part.values)
    return StackedWeights(parts)


def stack_constants(parts: Sequence[Constant]) -> Constant:
    """A Constant [E, ...] from E constants of one shape and element type, named after the first.

    Args:
        parts: Of any element type that ``read_matrix`` reads. Where an expert has an odd number of 4-bit
            elements, those of the next one follow without a gap.

    Returns:
        A new Constant, not part of any model, that owns its memory: E times the bytes of a part.
    """
    first = parts[0]
    tensor = ov.Tensor(first.get_element_type(), ov.Shape([len(parts), *first.shape]))
    target = _bytes(tensor)
    elements = math.prod(first.shape)
    if element_type(first.output(0)) in FOUR_BIT and elements % 2:
        nibbles = np.concatenate([_nibbles(_bytes(part), elements) for part in parts])
        nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8))
        target[:] = nibbles[0::2] | nibbles[1::2] << np.uint8(4)
    else:
        size = int(first.get_byte_size())
        for index, part in enumerate(parts):
            target[index * size : (index + 1) * size] = _bytes(part)
    # The tensor's memory is OpenVINO's own: unlike a NumPy array's, the Constant keeps it alive.
    result = Constant(tensor, shared_memory=True)
    result.set_friendly_name(f"{first.get_friendly_name()}/stacked")
    return result


def _stack_present(parts: Sequence[Constant | None]) -> Constant | None:
    present = [part for part in parts if part is not None]
    return stack_constants(present) if present else None


def _bytes(holder: Any) -> NDArray[np.uint8]:
    """The memory of a Tensor or a Constant, flat; 4-bit elements two to a byte, low nibble first."""
    data: NDArray[np.generic] = holder.data
    return data.reshape(-1).view(np.uint8)


def _nibbles(packed: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    return np.stack([packed & np.uint8(15), packed >> np.uint8(4)], axis=1).reshape(-1)[:count]


def _stored(part: MatrixWeights) -> str:
    """All that must agree for bytes to be stacked, in words."""
    words = f"{part.spec.label()} {list(part.values.shape)}"
    return words if part.scale is None else f"{words} with {element_type(part.scale.output(0))} scales"
