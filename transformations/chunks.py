"""Prompts longer than an island: a loop over chunks of ``max_tokens`` tokens behind the first ones.

The loop runs zero times for all other prompts. On the GPU plugin (2026.4.1, virtual GPU) it then costs one
concatenation a block and one wait of the host an inference, and no kernel is ever built at run time.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from .island import Island, Tokens, i64

# No prompt is as long as this; it fits the i32 that the GPU plugin computes sizes in.
_FAR = 2**31 - 1


def rest_in_chunks(island: Island, tokens: Tokens, length: ov.Node) -> ov.Output:
    """y [max(T - TM, 0), H]: what the block gives for the tokens behind the first TM.

    Args:
        island: The block's operations; a second set of them stands in the loop's body.
        tokens: All T tokens.
        length: T as i64 [1].
    """
    room = island.spec.max_tokens
    rest = ops.maximum(ops.subtract(length, i64([room])), i64([0]))
    chunks = ops.divide(ops.add(rest, i64([room - 1])), i64([room]))
    # Cut the first TM tokens off, fill the last chunk up. The amounts are a node for T and a constant for the
    # columns, computed on the host.
    missing = ops.subtract(ops.multiply(ops.add(chunks, i64([1])), i64([room])), length)
    padded = tokens.padded(i64([-room, 0]), ops.concat([missing, i64([0])], 0))

    body_tokens, body_weights, body = _body(island)
    loop = ops.loop(ops.squeeze(chunks, i64([0])), ops.constant(np.array(True)))
    loop.set_function(body)
    loop.set_special_body_ports([-1, 1])
    for parameter, value in zip(body_tokens, (padded.x, padded.ids, padded.weights), strict=True):
        shape = ops.concat([chunks, i64(list(parameter.get_output_shape(0))[1:])], 0)
        chunked = ops.reshape(value, shape, special_zero=False)
        loop.set_sliced_input(parameter, chunked.output(0), 0, 1, 1, -1, 0)
    for parameter, value in zip(body_weights, island.weights, strict=True):
        loop.set_invariant_input(parameter, _of_unknown_length(value, length))
    loop.set_friendly_name(f"{island.name}/chunks")
    computed = loop.get_concatenated_slices(body.get_results()[0].output(0), 0, 1, 1, -1, 0)
    flat = ops.reshape(computed, i64([-1, island.spec.hidden]), special_zero=False)
    return ops.slice(flat, i64([0]), rest, i64([1]), i64([0])).output(0)


def _body(island: Island) -> tuple[list[ov.Node], list[ov.Node], ov.Model]:
    """(parameters for one chunk, parameters for the weights, body): one chunk [1, TM, H] -> y [1, TM, H]."""
    spec, name = island.spec, island.name
    kinds = ((spec.hidden, ov.Type.f32), (spec.top_k, ov.Type.i32), (spec.top_k, ov.Type.f32))
    chunk = [ops.parameter([1, spec.max_tokens, columns], kind) for columns, kind in kinds]
    unknown = [ops.parameter([-1, *list(value.get_shape())[1:]], value.get_element_type()) for value in island.weights]
    weights = tuple(
        ops.reshape(parameter, i64(list(value.get_shape())), special_zero=False).output(0)
        for parameter, value in zip(unknown, island.weights, strict=True)
    )
    y = island.place(Tokens(*(parameter.output(0) for parameter in chunk)), weights, "/chunk")
    one = ops.reshape(y, i64([1, spec.max_tokens, spec.hidden]), special_zero=False)
    results = [ops.result(one), ops.result(ops.constant(np.array(True)))]
    return chunk, unknown, ov.Model(results, [*chunk, *unknown], f"{name}/chunk")


def _of_unknown_length(value: ov.Output, length: ov.Node) -> ov.Output:
    """``value`` with a first dimension that shape inference cannot know; the data stays where it is.

    The GPU plugin gives every input of static shape in a loop's body a buffer of its own: weights of 64.7 MB
    then took 129.5 MB. An input of dynamic shape takes the outer buffer (65.1 MB).
    """
    first, *others = list(value.get_shape())
    hidden = ops.maximum(ops.subtract(length, i64([_FAR])), i64([first]))  # always ``first``
    shape = ops.concat([hidden, i64(others)], 0) if others else hidden
    return ops.reshape(value, shape, special_zero=False).output(0)
