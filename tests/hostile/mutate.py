"""Changes to a saved IR, each one a small record: what hostile or broken files may hold.

A place is a number below 1: the same one means about the same layer in every IR, and shrinks to the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from hostile.values import IDS, NAMES, REALS, SIZES, TEXTS, TYPES

Element = ElementTree.Element
T = TypeVar("T")


@dataclass(frozen=True)
class Mutation:
    """One change.

    Attributes:
        kind: A key of ``MUTATIONS``.
        place: Which of the elements it could change, as a share of their number.
        value: Index of what is put there; each kind takes it modulo what it has.
        part: Which attribute, port or byte, as a share.
        free: Text that is put there instead.
    """

    kind: str
    place: float
    value: int
    part: float
    free: str | None = None

    @property
    def text(self) -> str:
        return TEXTS[self.value % len(TEXTS)] if self.free is None else self.free

    @property
    def name(self) -> str:
        return NAMES[self.value % len(NAMES)] if self.free is None else self.free


@dataclass
class IR:
    """An IR that is being changed, and the inputs it is run with."""

    tree: Element
    weights: bytearray | None
    text: str | None = None  # takes the place of the tree
    ids: int | None = None  # written into the ids of the inputs, one by one
    x: float | None = None  # the same of x

    def layers(self) -> list[Element]:
        return list(self.tree.iter("layer"))

    def of_ours(self) -> list[Element]:
        """The operations of ov-moe; all layers where there is none."""
        return [one for one in self.layers() if one.get("type", "").startswith("MoE")] or self.layers()

    def constants(self) -> list[Element]:
        """The data of constants."""
        found = [layer.find("data") for layer in self.layers() if layer.get("type") == "Const"]
        return [data for data in found if data is not None]

    def floats(self) -> Iterator[NDArray[np.floating]]:
        """The values of every constant of floats, as far as the file has them."""
        for data in self.constants():
            kind = {"f16": np.float16, "f32": np.float32, "f8e8m0": np.uint8}.get(data.get("element_type", ""))
            start, size = _range(self, data)
            if kind is not None and self.weights is not None:
                found = np.frombuffer(bytes(self.weights[start : start + size]), np.uint8)
                found = found[: found.size // np.dtype(kind).itemsize * np.dtype(kind).itemsize].view(kind)
                yield found.astype(np.float32) if kind != np.uint8 else np.where(found == 255, np.nan, 1.0)

    def save(self, folder: Path) -> Path:
        path = folder / "model.xml"
        text = ElementTree.tostring(self.tree, encoding="unicode") if self.text is None else self.text
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        if self.weights is not None:
            path.with_suffix(".bin").write_bytes(self.weights)
        return path


def load(path: Path) -> IR:
    return IR(ElementTree.parse(path).getroot(), bytearray(path.with_suffix(".bin").read_bytes()))


def mutate(ir: IR, mutation: Mutation) -> None:
    MUTATIONS[mutation.kind](ir, mutation)


def _at(found: list[T], place: float) -> T | None:
    return found[int(place * len(found))] if found else None


def _set_text(layer: Element | None, mutation: Mutation) -> None:
    data = layer.find("data") if layer is not None else None
    if data is None or not data.attrib:
        return
    name = _at(sorted(data.attrib), mutation.part)
    if name is not None:
        data.set(name, mutation.text)


def attribute(ir: IR, mutation: Mutation) -> None:
    _set_text(_at([one for one in ir.layers() if one.find("data") is not None], mutation.place), mutation)


def own_attribute(ir: IR, mutation: Mutation) -> None:
    _set_text(_at(ir.of_ours(), mutation.place), mutation)


def all_attributes(ir: IR, mutation: Mutation) -> None:
    """The same attribute of every operation of ov-moe, so that they still agree."""
    names = sorted({name for layer in ir.of_ours() for data in layer.findall("data") for name in data.attrib})
    name = _at(names, mutation.part)
    for layer in ir.of_ours():
        data = layer.find("data")
        if name is not None and data is not None and name in data.attrib:
            data.set(name, mutation.text)


def exchanged_attribute(ir: IR, mutation: Mutation) -> None:
    """A value from another operation's attribute of the same name."""
    layer = _at(ir.of_ours(), mutation.place)
    data = layer.find("data") if layer is not None else None
    if data is None or not data.attrib:
        return
    name = _at(sorted(data.attrib), mutation.part)
    others = [d.get(name or "") for one in ir.layers() for d in one.findall("data") if name in d.attrib]
    data.set(name or "", str(others[mutation.value % len(others)]))


def switch(ir: IR, mutation: Mutation) -> None:
    """What the model's own information says of ov-moe: another word, none, or one in the wrong place."""
    ours = _at([part for info in ir.tree.findall("rt_info") for part in info.findall("ov_moe")], 0.0)
    if ours is None:
        return
    if mutation.part < 0.6:
        ours[0].set("value", mutation.text)
    elif mutation.part < 0.8:
        ours.set("value", mutation.text)
    else:
        ours.remove(ours[0])


def lost_attribute(ir: IR, mutation: Mutation) -> None:
    layer = _at(ir.of_ours(), mutation.place)
    data = layer.find("data") if layer is not None else None
    if data is not None and data.attrib:
        data.attrib.pop(_at(sorted(data.attrib), mutation.part) or "")


def name(ir: IR, mutation: Mutation) -> None:
    layer = _at(ir.layers(), mutation.place)
    if layer is not None:
        layer.set("name", mutation.name)


def all_names(ir: IR, mutation: Mutation) -> None:
    for layer in ir.layers():
        layer.set("name", mutation.name)


def layer_type(ir: IR, mutation: Mutation) -> None:
    layer = _at(ir.of_ours(), mutation.place)
    others = sorted({one.get("type", "") for one in ir.layers()} | {"NoSuchOperation", "MoEDown", "MoERoute"})
    if layer is not None:
        layer.set("type", others[mutation.value % len(others)])


def layer_id(ir: IR, mutation: Mutation) -> None:
    layer = _at(ir.layers(), mutation.place)
    if layer is not None:
        layer.set("id", ("0", "1", "-1", str(2**64), "x", "")[mutation.value % 6])


def constant_type(ir: IR, mutation: Mutation) -> None:
    data = _at(ir.constants(), mutation.place)
    if data is not None:
        data.set("element_type", TYPES[mutation.value % len(TYPES)])


def constant_shape(ir: IR, mutation: Mutation) -> None:
    data = _at(ir.constants(), mutation.place)
    if data is None:
        return
    dims = [dim for dim in data.get("shape", "").split(",") if dim.strip()]
    index = int(mutation.part * (len(dims) + 1))
    size = SIZES[mutation.value % len(SIZES)]
    if index < len(dims):
        dims[index] = str(size)
    elif mutation.value % 2 or not dims:
        dims.append(str(size))
    else:
        dims.pop()
    data.set("shape", ",".join(dims))


def constant_offset(ir: IR, mutation: Mutation) -> None:
    """Other bytes than its own, or none of the file."""
    data = _at(ir.constants(), mutation.place)
    if data is not None:
        sizes = (*SIZES, len(ir.weights or b""), len(ir.weights or b"") - 1)
        data.set("offset" if mutation.part < 0.6 else "size", str(sizes[mutation.value % len(sizes)]))


def constant_bytes(ir: IR, mutation: Mutation) -> None:
    """All bytes of a constant become 0, 0xFF, or random."""
    data = _at(ir.constants(), mutation.place)
    if data is None or ir.weights is None:
        return
    start, size = _range(ir, data)
    random = np.random.default_rng(mutation.value).bytes(size)
    ir.weights[start : start + size] = (b"\0" * size, b"\xff" * size, random)[mutation.value % 3]


def no_number(ir: IR, mutation: Mutation) -> None:
    """NaN, infinity or a giant in a constant of floats: in one element, or in all."""
    floats = [d for d in ir.constants() if d.get("element_type") in ("f32", "f16") and _range(ir, d)[1] > 8]
    data = _at(floats, mutation.place)
    if data is None or ir.weights is None:
        return
    start, size = _range(ir, data)
    kind = np.float16 if data.get("element_type") == "f16" else np.float32
    view: NDArray[np.floating] = np.frombuffer(bytes(ir.weights[start : start + size]), kind).copy()
    if not view.size:
        return
    with np.errstate(over="ignore"):
        value = kind(REALS[mutation.value % len(REALS)])
    if mutation.part < 0.8:
        view[min(int(mutation.part / 0.8 * view.size), view.size - 1)] = value
    else:
        view[:] = value
    ir.weights[start : start + size] = view.tobytes()


def _range(ir: IR, data: Element) -> tuple[int, int]:
    """Start and length of a constant's bytes, inside of the file."""
    numbers = [data.get(name, "0") for name in ("offset", "size")]
    start, size = (int(text) if re.fullmatch(r"\d{1,9}", text) else 0 for text in numbers)
    length = len(ir.weights or b"")
    return min(start, length), max(min(size, length - start), 0)


def truncated_weights(ir: IR, mutation: Mutation) -> None:
    if ir.weights is not None:
        del ir.weights[int(mutation.part * len(ir.weights)) :]


def no_weights(ir: IR, mutation: Mutation) -> None:
    ir.weights = None


def swapped_ports(ir: IR, mutation: Mutation) -> None:
    """Two edges give each other their source."""
    edges = list(ir.tree.iter("edge"))
    one, other = _at(edges, mutation.place), _at(edges, mutation.part)
    if one is not None and other is not None:
        for key in ("from-layer", "from-port"):
            a, b = one.get(key, ""), other.get(key, "")
            one.set(key, b)
            other.set(key, a)


def edge(ir: IR, mutation: Mutation) -> None:
    """An edge that ends somewhere else, or nowhere."""
    one = _at(list(ir.tree.iter("edge")), mutation.place)
    if one is not None:
        key = _at(sorted(one.attrib), mutation.part)
        one.set(key or "to-port", ("0", "1", "2", "7", "-1", str(2**40), "x")[mutation.value % 7])


def lost_edge(ir: IR, mutation: Mutation) -> None:
    groups = [group for group in ir.tree.iter("edges") if len(group)]
    group = _at(groups, mutation.part)
    if group is not None:
        group.remove(group[int(mutation.place * len(group))])


def lost_layer(ir: IR, mutation: Mutation) -> None:
    groups = [group for group in ir.tree.iter("layers") if len(group)]
    group = _at(groups, mutation.part)
    if group is not None:
        group.remove(group[int(mutation.place * len(group))])


def parameter(ir: IR, mutation: Mutation) -> None:
    """Shape or type of an input, of the model or of a loop's body."""
    found = [layer.find("data") for layer in ir.layers() if layer.get("type") == "Parameter"]
    data = _at([one for one in found if one is not None], mutation.place)
    if data is None:
        return
    if mutation.part < 0.3:
        data.set("element_type", TYPES[mutation.value % len(TYPES)])
        return
    dims = data.get("shape", "").split(",")
    dims[min(int((mutation.part - 0.3) / 0.7 * len(dims)), len(dims) - 1)] = str(SIZES[mutation.value % len(SIZES)])
    data.set("shape", ",".join(dims))


def port_dims(ir: IR, mutation: Mutation) -> None:
    """What a port says of its shape, which OpenVINO computes anew."""
    dim = _at(list(ir.tree.iter("dim")), mutation.place)
    if dim is not None:
        dim.text = str(SIZES[mutation.value % len(SIZES)])


def broken_xml(ir: IR, mutation: Mutation) -> None:
    text = ElementTree.tostring(ir.tree, encoding="unicode")
    at = int(mutation.place * len(text))
    bomb = '<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    ir.text = (
        text[:at],
        text[:at] + "<" + text[at:],
        text[:at] + "\ufffe\x01" + text[at:],
        f"{bomb}]>" + text.replace('name="', 'name="&i;', 1),
        "<net version='11'>" + "<layers>" * 20_000,
        text.replace('version="11"', 'version="10"', 1),
        "",
    )[mutation.value % 7]


def ids(ir: IR, mutation: Mutation) -> None:
    ir.ids = IDS[mutation.value % len(IDS)]


def x(ir: IR, mutation: Mutation) -> None:
    ir.x = REALS[mutation.value % len(REALS)]


MUTATIONS: dict[str, Callable[[IR, Mutation], None]] = {
    change.__name__.replace("_", " "): change
    for change in (
        attribute,
        own_attribute,
        all_attributes,
        exchanged_attribute,
        switch,
        lost_attribute,
        name,
        all_names,
        layer_type,
        layer_id,
        constant_type,
        constant_shape,
        constant_offset,
        constant_bytes,
        no_number,
        truncated_weights,
        no_weights,
        swapped_ports,
        edge,
        lost_edge,
        lost_layer,
        parameter,
        port_dims,
        broken_xml,
        ids,
        x,
    )
}
