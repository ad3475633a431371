"""The only writer of the GPU plugin's custom-layer file: one entry for each operation type."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ov_moe.errors import OutputError
from ov_moe.kernels.compose import compiler_options, defines, file_name, read_source, source_hash, sources
from ov_moe.kernels.config import LARGE_BUFFERS, STANDARD, KernelConfig, ModelConfig
from ov_moe.kernels.geometry import WorkSize
from ov_moe.kernels.stages import STAGES, Stage
from ov_moe.storage.kept import kept


def layer_element(
    stage: Stage, config: KernelConfig, size: WorkSize, large_buffers: bool = False
) -> ElementTree.Element:
    """The <CustomLayer> of one stage; ``large_buffers`` as for ``layers``.

    Inputs take format ANY: no reorder at run time, weights are not copied. The output is BFYX.
    """
    layer = ElementTree.Element("CustomLayer", name=stage.op_type, type="SimpleGPU", version="1")
    kernel = ElementTree.SubElement(layer, "Kernel", entry=stage.entry)
    for name in sources(stage, config):
        ElementTree.SubElement(kernel, "Source", filename=file_name(name))
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
    options = " ".join([STANDARD, *compiler_options(stage, config), *([LARGE_BUFFERS] if large_buffers else [])])
    ElementTree.SubElement(layer, "CompilerOptions", options=options)
    ElementTree.SubElement(
        layer,
        "WorkSizes",
        {"global": ",".join(map(str, size.global_size)), "local": f"{size.local_size},1,1"},
    )
    return layer


@dataclass(frozen=True)
class Layers:
    """A custom-layer file that is still to be written.

    Attributes:
        text: The file: one entry behind another, without a common root, so the plugin reads it.
        sources: The OpenCL sources that stand beside it, as ``compose.read_source`` names them.
        build: 16 hex digits that change with any kernel source, configuration, option or work size. The operations
            carry it as an attribute: a model cache that sees neither sources nor file then sees a different model.
    """

    text: str
    sources: tuple[str, ...]
    build: str

    def write(self, *folders: Path) -> Path:
        """Have file and sources in a sub-folder named by ``build``, each with the right content.

        Args:
            folders: Where that sub-folder may be; the first where it is right, or can be made so, serves.

        Returns:
            The file's path.

        Raises:
            DeviceError: Other users could change the files that serve.
            OutputError: It cannot be written.
        """
        contents = {file_name(name): read_source(name).encode() for name in self.sources}
        contents["layers.xml"] = self.text.encode()
        try:
            return kept(folders, self.build, contents, any_owner=True) / "layers.xml"
        except OSError as error:
            raise OutputError(
                f"{folders[0] / self.build} could not be written ({error.strerror or error}): let OV_MOE_CACHE name a "
                "folder that can."
            ) from error


def layers(config: ModelConfig, sizes: Mapping[str, WorkSize], large_buffers: bool = False) -> Layers:
    """The custom layers of a model.

    Args:
        config: The kernel configurations.
        sizes: Work size of each operation type that the model holds.
        large_buffers: Whether a buffer may be larger than 4 GiB: Intel's compiler then must not address it by 32 bits.
    """
    stages = [stage for stage in STAGES if stage.op_type in sizes]
    elements = [layer_element(stage, config.of(stage), sizes[stage.op_type], large_buffers) for stage in stages]
    text = "\n".join(map(_text, elements))
    build = hashlib.sha256(f"{source_hash(config)}{text}".encode()).hexdigest()[:16]
    return Layers(text, tuple(sorted({name for stage in stages for name in sources(stage, config.of(stage))})), build)


def _text(element: ElementTree.Element) -> str:
    ElementTree.indent(element)
    return ElementTree.tostring(element, encoding="unicode")
