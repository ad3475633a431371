"""Many tokens: a loop over chunks of ``max_tokens``, which runs zero times where the decode island takes all.

No kernel is built at run time, whatever the length. On the GPU plugin (2026.4.1, virtual GPU) an iteration costs
four waits of the host for the first chunk of a block and two for each further one; zero iterations cost none.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from .island import Island, Tokens
from .lengths import Lengths
from .nodes import first_rows, i64, reshaped


def in_chunks(island: Island, tokens: Tokens, lengths: Lengths) -> ov.Output:
    """y [lengths.many, H]: all tokens' results, or none.

    Args:
        island: The block's operations for one chunk; they stand in the loop's body.
        tokens: All T tokens.
        lengths: What follows from T.
    """
    padded = tokens.padded(lengths.many_begin, lengths.many_end)
    body_tokens, body_weights, body = _body(island)
    trips = reshaped(lengths.chunks.output(0), [])
    loop = ops.loop(trips, ops.constant(np.array(True)).output(0))
    loop.set_function(body)
    loop.set_special_body_ports([-1, 1])
    for parameter, value in zip(body_tokens, (padded.x, padded.ids, padded.weights), strict=True):
        chunked = reshaped(value, [-1, *list(parameter.get_output_shape(0))[1:]])
        loop.set_sliced_input(parameter, chunked, 0, 1, 1, -1, 0)
    for parameter, weights in zip(body_weights, island.weights, strict=True):
        loop.set_invariant_input(parameter, _of_unknown_length(weights, lengths))
    loop.set_friendly_name(f"{island.name}/chunks")
    computed = loop.get_concatenated_slices(body.get_results()[0].output(0), 0, 1, 1, -1, 0)
    return first_rows(reshaped(computed, [-1, island.spec.hidden]), lengths.many)


def _body(island: Island) -> tuple[list[ov.Node], list[ov.Node], ov.Model]:
    """(parameters for one chunk, parameters for the weights, body): one chunk [1, TM, H] -> y [1, TM, H]."""
    spec = island.spec
    kinds = ((spec.hidden, ov.Type.f32), (spec.top_k, ov.Type.i32), (spec.top_k, ov.Type.f32))
    chunk = [ops.parameter([1, spec.max_tokens, columns], kind) for columns, kind in kinds]
    unknown = [ops.parameter([-1, *list(value.get_shape())[1:]], value.get_element_type()) for value in island.weights]
    weights = tuple(
        reshaped(parameter.output(0), list(value.get_shape()))
        for parameter, value in zip(unknown, island.weights, strict=True)
    )
    y = island.place(Tokens(*(parameter.output(0) for parameter in chunk)), weights)
    one = reshaped(y, [1, spec.max_tokens, spec.hidden])
    # Not a constant itself: see cached.py. OpenVINO computes it before anything is compiled.
    forever = ops.logical_not(ops.constant(np.array(False)))
    results = [ops.result(one), ops.result(forever)]
    return chunk, unknown, ov.Model(results, [*chunk, *unknown], f"{island.name}/chunk")


def _of_unknown_length(value: ov.Output, lengths: Lengths) -> ov.Output:
    """``value`` with a first dimension that shape inference cannot know; the data stays where it is.

    The GPU plugin gives every input of static shape in a loop's body a buffer of its own: weights of 64.7 MB
    then took 129.5 MB. An input of dynamic shape takes the outer buffer (65.1 MB).
    """
    first, *others = list(value.get_shape())
    pattern = ops.maximum(lengths.behind, i64([first]))  # always ``first``
    return reshaped(value, ops.concat([pattern, i64(others)], 0) if others else pattern)
