"""Small nodes that the rewrite is full of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as ops


def i64(value: object) -> ov.Node:
    """An i64 constant."""
    return ops.constant(np.array(value, np.int64))


def reshaped(value: ov.Output, shape: Sequence[int] | ov.Node | ov.Output) -> ov.Output:
    """``value`` in another shape; -1 is the rest, 0 has no special meaning."""
    pattern = shape if isinstance(shape, (ov.Node, ov.Output)) else i64(list(shape))
    return ops.reshape(value, pattern, special_zero=False).output(0)


def first_rows(value: ov.Output, count: ov.Node) -> ov.Output:
    """The first ``count`` (i64 [1]) rows of [rows, columns]."""
    return ops.slice(value, i64([0]), count, i64([1]), i64([0])).output(0)
