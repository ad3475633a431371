"""The only writer of the GPU plugin's custom-layer file: one entry for each operation type."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from ov_moe.kernels.compose import compiler_options, defines, read_source, source_hash
from ov_moe.kernels.config import STANDARD, KernelConfig, ModelConfig
from ov_moe.kernels.geometry import WorkSize
from ov_moe.kernels.stages import STAGES, Stage


def layer_element(stage: Stage, config: KernelConfig, size: WorkSize) -> ElementTree.Element:
    """The <CustomLayer> of one stage.

    Inputs take format ANY: no reorder at run time, weights are not copied. The output is BFYX.
    """
    layer = ElementTree.Element("CustomLayer", name=stage.op_type, type="SimpleGPU", version="1")
    kernel = ElementTree.SubElement(layer, "Kernel", entry=stage.entry)
    for name in stage.sources:
        ElementTree.SubElement(kernel, "Source", filename=name)
    for name in stage.attributes:
        ElementTree.SubElement(kernel, "Define", name=name.upper(), param=name, type="string")
    for name, value in defines(stage, config):
        ElementTree.SubElement(kernel, "Define", name=name, default=value)
    buffers = ElementTree.SubElement(layer, "Buffers")
    for port in range(stage.inputs):
        ElementTree.SubElement(
            buffers,
            "Tensor",
            {"arg-index": str(port), "type": "input", "port-index": str(port), "format": "ANY"},
        )
    ElementTree.SubElement(
        buffers,
        "Tensor",
        {"arg-index": str(stage.inputs), "type": "output", "port-index": "0", "format": "BFYX"},
    )
    options = " ".join([STANDARD, *compiler_options(stage, config)])
    ElementTree.SubElement(layer, "CompilerOptions", options=options)
    ElementTree.SubElement(
        layer,
        "WorkSizes",
        {"global": ",".join(map(str, size.global_size)), "local": f"{size.local_size},1,1"},
    )
    return layer


def write_layers(folder: Path, config: ModelConfig, sizes: Mapping[str, WorkSize]) -> Path:
    """Write the custom-layer file and the sources beside it; returns the file's path.

    Args:
        folder: A cache folder; a sub-folder named by the content is made, whole or not at all.
        config: The kernel configurations.
        sizes: Work size of each operation type that the model holds.
    """
    stages = [stage for stage in STAGES if stage.op_type in sizes]
    layers = [layer_element(stage, config.of(stage), sizes[stage.op_type]) for stage in stages]
    text = "\n".join(map(_text, layers))
    target = folder / f"{source_hash(config)}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder))
        for name in sorted({name for stage in stages for name in stage.sources}):
            (draft / name).write_text(read_source(name), encoding="utf-8")
        # One entry behind another, without a common root: so the plugin reads it.
        (draft / "layers.xml").write_text(text, encoding="utf-8")
        try:
            os.rename(draft, target)
        except OSError:  # another process was first: its content is the same
            for file in draft.iterdir():
                file.unlink()
            draft.rmdir()
    return target / "layers.xml"


def _text(element: ElementTree.Element) -> str:
    ElementTree.indent(element)
    return ElementTree.tostring(element, encoding="unicode")
