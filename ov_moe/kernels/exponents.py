"""Rows of h and d beyond f16, the mirror of cl/exponents.cl: what can exceed f16, and where its exponents stand.

The GPU plugin gives activations f16, whose largest value is 65504. A block's h, and d before the top-k weights, may be
larger and its y small. OpenVINO's own answer, ACTIVATIONS_SCALE_FACTOR, divides the inputs of the MatMuls of a graph by
a constant; inside a block's operations there are none. Here a row has power-of-two exponents of its own instead, which
cost nothing where no value is beyond f16, lose nothing where one is, and need no switch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ov_moe.kernels.activations import ACTIVATIONS
from ov_moe.kernels.plan import D_WIDE, H_WIDE
from ov_moe.spec import Activation

F16_MAX = 65504.0
# The narrowest block of columns that has an exponent of its own; rows stay multiples of 64 bytes longer.
_BLOCK, _ALIGNMENT = 32, 32


def row_columns(columns: int, exponents: bool) -> int:
    """Columns of a row of h or d with room for exponents behind the values."""
    room = -(-columns // _BLOCK) if exponents else 0
    return columns + -(-room // _ALIGNMENT) * _ALIGNMENT


def may_exceed_f16(activation: Activation) -> bool:
    """Whether h of a block may be beyond f16: not where the activation clamps what it multiplies, as GPT-OSS's does."""
    if activation.limit is None:
        return True
    largest = ACTIVATIONS[activation.kind].largest(activation.limit, activation.beta)
    return not largest * (activation.limit + abs(activation.up_offset)) <= F16_MAX  # infinity times 0 is NaN


def told_to_look(plan: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """A copy of a plan that says that rows of h and d have exponents other than 0, for those that cannot know."""
    told: npt.NDArray[np.int32] = plan.copy()
    told.reshape(-1)[[H_WIDE, D_WIDE]] = 1
    return told
