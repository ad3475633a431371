"""What a model cache without weights (CACHE_MODE=OPTIMIZE_SIZE) makes of constants: it names their place in a file.

OpenVINO marks each constant that it reads from an IR with its place in the .bin file; one without goes into the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import openvino as ov

PLACE = "WeightlessCacheAttribute_0"


def misplaced_conditions(model: ov.Model) -> list[ov.Node]:
    """The constant conditions of the model's loops that have a place, which a GPU's cache without weights cannot have.

    The GPU plugin (2026.4.1) loads a loop's body without the file, finds no weights at that place and drops the whole
    cache: every process compiles again. Loops of in_chunks have no constant there; those that ov-moe saved before do.
    """
    results = (result.input_value(0).get_node() for body in _bodies(model) for result in body.get_results())
    return [node for node in results if node.get_type_name() == "Constant" and PLACE in node.get_rt_info()]


def forget_places(constants: list[ov.Node]) -> None:
    """Let a cache hold these constants themselves."""
    for node in constants:
        del node.get_rt_info()[PLACE]


def bytes_without_place(model: ov.Model) -> int:
    """Bytes of the u8 constants that no file holds as such: 4-bit weights that were rewritten in this process."""
    return sum(
        int(node.get_byte_size())
        for node in model.get_ops()
        if node.get_type_name() == "Constant"
        and node.get_element_type() == ov.Type.u8
        and PLACE not in node.get_rt_info()
    )


def _bodies(model: ov.Model) -> Iterator[ov.Model]:
    for node in model.get_ops():
        if node.get_type_name() == "Loop":
            yield node.get_function()
            yield from _bodies(node.get_function())
