"""Compiles a rewritten model for a device, with the custom layers where the device is a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import openvino as ov

from ov_moe.arguments import check_type
from ov_moe.devices.intel_cpu_runtime import cache_folder
from ov_moe.devices.own_moe import warn_of_own_moe
from ov_moe.devices.target import Target, activations, parse_target
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.attributes import check_layer_name
from ov_moe.kernels.block import BlockSpec
from ov_moe.kernels.choose import choose_model_config
from ov_moe.kernels.config import ADDRESSED_BY_32_BITS, ModelConfig
from ov_moe.kernels.geometry import WorkSize, work_size
from ov_moe.kernels.layer_xml import layers
from ov_moe.model_cache import make_cacheable
from ov_moe.openvino_errors import translated
from ov_moe.ops.evaluate import evaluation_device
from ov_moe.ops.registry import register
from ov_moe.options import Config
from ov_moe.spec import Activations, Fetch, MicroKernelSwitch, Switches, Workload
from ov_moe.storage.places import places
from ov_moe.transformations.operations import blocks_of, moe_operations, port_bytes, stage_of
from ov_moe.transformations.switches import balance_of

_LARGE_ALLOCATIONS = "GPU_ENABLE_LARGE_ALLOCATIONS"


def compile_model(
    core: ov.Core,
    model: ov.Model,
    device: str = "GPU",
    config: Mapping[str, Any] | None = None,
    *,
    fetch: Fetch | None = None,
    groups: int | None = None,
    micro_kernel: MicroKernelSwitch | None = None,
) -> ov.CompiledModel:
    """Compile a model that ``ov_moe.optimize`` rewrote.

    Args:
        core: The Core; it learns ov-moe's operations.
        model: The rewritten model. Its operations get what they are compiled with, on a GPU the hash of the kernels.
        device: ``GPU``, ``GPU.n``, ``AUTO:GPU``, ``MULTI:GPU`` or ``CPU`` (there the operations run outside the
            plugin, see ov_moe.ops.evaluate).
        config: Properties for ``core.compile_model``.
        fetch: How a pool group takes its next task; ``stride`` is for ablation. None follows OV_MOE_FETCH, and
            without it the default in ``ov_moe.Config``.
        groups: Work-groups of the pool. None follows OV_MOE_GROUPS, and without it the device's compute units.
        micro_kernel: ``fma``, ``dpas`` or ``auto`` (``dpas`` on a GPU with XMX and f16 activations). None follows
            OV_MOE_MICRO_KERNEL, and without it ``auto``. ``dpas`` is refused on a GPU without XMX; ``dpas-emulated``
            computes its instruction otherwise, on any GPU, slowly and for tests alone.

    Returns:
        The compiled model.

    Raises:
        InvalidInputError: The model holds no ov-moe operation, the config names its own CONFIG_FILE, a property is
            refused, or an argument or variable is out of range or of another type.
        DeviceError: The device is not served, this machine lacks it, OpenVINO cannot compile the model for it, or
            other users could write to ov-moe's cache folder.
        OutputError: ov-moe's cache folder cannot be written.
    """
    properties = prepare(core, model, device, config, fetch=fetch, groups=groups, micro_kernel=micro_kernel)
    with translated(f"OpenVINO cannot compile the model for {device}"):
        return core.compile_model(model, device, properties)


def prepare(
    core: ov.Core,
    model: ov.Model,
    device: str = "GPU",
    config: Mapping[str, Any] | None = None,
    *,
    fetch: Fetch | None = None,
    groups: int | None = None,
    micro_kernel: MicroKernelSwitch | None = None,
) -> dict[str, Any]:
    """Do all that ``compile_model`` does but the compilation, for those who compile elsewhere.

    On a GPU the custom-layer file is written, and the operations get the hash of the kernels; elsewhere they get the
    model's ``balance``. The model must then be compiled for this device with the properties that are returned. A model
    cache without weights (``CACHE_MODE=OPTIMIZE_SIZE``) brings a warning: see ov_moe.model_cache.

    Args:
        core: The Core that will compile; it learns ov-moe's operations.
        model: The rewritten model.
        device: As for ``compile_model``, and so are the others.
        config: Properties to which those of ov-moe are added.
        fetch: See ``device``.
        groups: See ``device``.
        micro_kernel: See ``device``.

    Returns:
        ``config``, and on a GPU the CONFIG_FILE with ov-moe's kernels.

    Raises:
        InvalidInputError: As for ``compile_model``.
        DeviceError: As for ``compile_model``, but what OpenVINO cannot compile.
        OutputError: ov-moe's cache folder cannot be written.
    """
    operations = _checked(core, model, config)
    target = parse_target(core, device)
    properties = dict(config or {})
    warn_of_own_moe(core, target, properties)
    register(core)
    options = Config.from_environment(fetch=fetch, groups=groups, micro_kernel=micro_kernel)
    make_cacheable(core, model, target, properties)
    if target.gpu:
        real = activations(core, target, properties)
        kernels = kernel_config(model, target, options.fetch, options.groups, options.micro_kernel, real)
        build = _write_layers(operations, kernels, properties)
    else:
        evaluation_device()  # refuses now what the first inference would
        build = balance_of(model)
    for node in operations:
        node.set_attribute("build", build)
    return properties


def _checked(core: ov.Core, model: ov.Model, config: Mapping[str, Any] | None) -> list[ov.Node]:
    """The operations of a rewritten model; raises InvalidInputError for what ``prepare`` refuses of its arguments."""
    check_type("core", core, ov.Core, "an openvino.Core")
    check_type("model", model, ov.Model, "an openvino.Model, as from core.read_model")
    check_type("config", config, (Mapping, type(None)), "a mapping of properties, or None")
    for key in config or {}:
        check_type(f"The config's key {key!r}", key, str, "a property's name")
    operations = list(moe_operations(model))
    if not operations:
        raise InvalidInputError(
            "The model holds no ov-moe operation: call ov_moe.optimize(model) first, "
            "and core.compile_model where its report shows no rewritten block."
        )
    for node in operations:
        check_layer_name(str(node.get_friendly_name()))
    return operations


def _write_layers(operations: list[ov.Node], kernels: ModelConfig, properties: dict[str, Any]) -> str:
    """Write the custom-layer file and name it in the properties; returns the hash of its kernels."""
    if "CONFIG_FILE" in properties:
        raise InvalidInputError(
            "The config names a CONFIG_FILE, and the GPU plugin takes only one, which ov-moe writes itself: "
            "leave it out."
        )
    found = layers(kernels, work_sizes(operations, kernels), large_buffers(operations, properties))
    properties["CONFIG_FILE"] = str(found.write(*places(cache_folder(), "layers")))
    return found.build


def kernel_config(
    model: ov.Model,
    target: Target,
    fetch: Fetch = "ticket",
    groups: int | None = None,
    micro_kernel: MicroKernelSwitch = "auto",
    real: Activations = "f16",
) -> ModelConfig:
    """One pair of configurations for all blocks: the custom-layer file has one entry for each operation type.

    Raises InvalidInputError where the model's ``balance`` is no such word.
    """
    operations = list(moe_operations(model))
    few = [node for node in operations if stage_of(node).decode]
    many = [node for node in operations if not stage_of(node).decode]
    chosen = Switches(balance_of(model), fetch, groups, micro_kernel)
    return choose_model_config(workload(many or few, real), workload(few or many, real), target.info, chosen)


def large_buffers(operations: list[ov.Node], properties: Mapping[str, Any]) -> bool:
    """Whether an operation reads or writes more than 4 GiB, or the plugin is told that some do."""
    if str(properties.get(_LARGE_ALLOCATIONS, False)).upper() in ("TRUE", "YES"):
        return True
    ports = (port for node in operations for port in [*node.inputs(), *node.outputs()])
    return any(port_bytes(port) > ADDRESSED_BY_32_BITS for port in ports)


def workload(operations: list[ov.Node], real: Activations) -> Workload:
    """What the kernels of some operations are chosen for: their largest sizes, and the weights of one of them."""
    blocks = list(blocks_of(operations).values())
    precision = blocks[0].gate.precision
    return Workload(
        tokens=max(block.max_tokens for block in blocks),
        experts=max(block.experts for block in blocks),
        top_k=max(block.top_k for block in blocks),
        hidden=max(block.hidden for block in blocks),
        intermediate=max(block.intermediate for block in blocks),
        precision="f16" if precision == "f32" else precision,
        activations=real,
    )


def work_sizes(operations: list[ov.Node], config: ModelConfig) -> dict[str, WorkSize]:
    """The work size of each operation type: the smallest that covers all its operations."""
    sizes: dict[str, WorkSize] = {}
    for node in operations:
        stage, block = stage_of(node), BlockSpec.from_attributes(node.get_attributes())
        size = work_size(stage, config.of(stage), block.sizes())
        sizes[stage.op_type] = sizes.get(stage.op_type, size).union(size)
    return sizes
