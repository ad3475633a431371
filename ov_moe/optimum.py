"""optimum-intel: ov-moe in an OVModelForCausalLM, or in any OVModel whose parts hold MoE blocks.

Importing this module imports neither optimum nor torch: ``optimize`` is given a model that already did, and ``load``
imports them.
"""

from __future__ import annotations

import functools
import importlib
import sys
import weakref
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openvino as ov

from ov_moe.arguments import to_path
from ov_moe.compiler import prepare
from ov_moe.devices.target import parse_target
from ov_moe.errors import DeviceError, InvalidInputError, OvMoeError
from ov_moe.folder.files import list_model
from ov_moe.folder.read import check_ir
from ov_moe.openvino_errors import message_of, translated
from ov_moe.ops.registry import register
from ov_moe.optimizer import optimize as optimize_model
from ov_moe.report import Report
from ov_moe.spec import Balance
from ov_moe.transformations.families import find_blocks
from ov_moe.transformations.operations import moe_operations

if TYPE_CHECKING:
    from optimum.intel.openvino.modeling_base import OVBaseModel, OVModelHostMixin

_MODELING = "optimum.intel.openvino.modeling_base"


def optimize(
    model: OVBaseModel, balance: Balance | None = None, *, max_tokens: int | None = None, few_tokens: int | None = None
) -> Report:
    """Rewrite the MoE blocks of an optimum-intel model, in place.

    The model is compiled again when it is next used, or by ``model.compile()``; load it with ``compile=False`` to
    compile once only. ``model.to(device)`` works as before, and ``model.save_pretrained`` writes a folder for
    ``load``. The model cache that optimum-intel switches on for a GPU stays on: the operations carry the hash of
    their kernels, so that changed kernels are a changed model.

    Args:
        model: An OVModelForCausalLM, or any OVModel.
        balance: As for ``ov_moe.optimize``.
        max_tokens: As for ``ov_moe.optimize``.
        few_tokens: As for ``ov_moe.optimize``.

    Returns:
        One report over all parts of the model.

    Raises:
        InvalidInputError: It is no OVModel, was loaded with ``compile_only``, is optimised already, holds no MoE
            block, or an argument or variable is out of range; the model is unchanged.
        DeviceError: Its device is not served, or this machine lacks it; the model is unchanged.
    """
    modeling = sys.modules.get(_MODELING)
    if modeling is None or not isinstance(model, modeling.OVModelHostMixin):
        raise InvalidInputError(
            "ov_moe.optimum.optimize takes a model of optimum-intel, such as OVModelForCausalLM, "
            f"this is {type(model).__name__}."
        )
    parts = _parts_with_blocks(model)
    for host, _ in parts:
        parse_target(modeling.core, host._device)
    reports = [optimize_model(part, balance, max_tokens=max_tokens, few_tokens=few_tokens) for _, part in parts]
    report = Report(
        rewritten=tuple(block for one in reports for block in one.rewritten),
        skipped=tuple(region for one in reports for region in one.skipped),
        balance=reports[0].balance,
        max_tokens=reports[0].max_tokens,
    )
    if report.rewritten:
        model.clear_requests()
        _compile_with_kernels(model)
    return report


def _parts_with_blocks(model: OVBaseModel) -> list[tuple[Any, ov.Model]]:
    kind = type(model).__name__
    parts = list(_parts(model))
    if any(_optimised(part) for _, part in parts):
        raise InvalidInputError(f"This {kind} is already optimised: use it as it is.")
    parts = [(host, part) for host, part in parts if any(find_blocks(part))]
    if not parts:
        raise InvalidInputError(f"No MoE block was found in this {kind}: use it as it is.")
    if len({id(host) for host, _ in parts}) < len(parts):
        raise InvalidInputError(f"A part of this {kind} compiles several models with MoE blocks: that is not served.")
    return parts


def load(
    folder: str | PathLike[str],
    device: str = "GPU",
    *,
    model_class: type[OVBaseModel] | None = None,
    compile: bool = True,
    **options: Any,
) -> Any:
    """Load a folder that holds an optimised model.

    Args:
        folder: What ``save_pretrained`` wrote after ``optimize``, or what ``ov_moe.genai.optimize`` wrote.
        device: ``GPU``, ``GPU.n``, ``AUTO:GPU``, ``MULTI:GPU`` or ``CPU`` (there the operations run outside the
            plugin, which is for checking).
        model_class: The OVModel class; OVModelForCausalLM by default.
        compile: Whether to compile at once, or when the model is first used.
        **options: For the class's ``from_pretrained``.

    Returns:
        The model, of ``model_class``.

    Raises:
        InvalidInputError: There is no OpenVINO model in the folder, it is not whole or not optimised, an option is
            refused, or ``compile_only`` is asked for.
        DeviceError: The device is not served, this machine lacks it, or optimum-intel cannot be imported.
    """
    folder = to_path("folder", folder)
    if not any(folder.glob("**/*.xml")):
        raise InvalidInputError(f"There is no OpenVINO model in {folder}: give a folder that save_pretrained wrote.")
    if options.get("compile_only"):
        raise InvalidInputError("compile_only is not served: ov-moe prepares a model before it is compiled.")
    modeling, chosen = _modeling(model_class)
    parse_target(modeling.core, device.upper() if isinstance(device, str) else device)
    for path in list_model(folder).irs:
        check_ir(folder / path)
    register(modeling.core)
    model = _from_pretrained(chosen, folder, device=device, compile=False, **options)
    if not any(_optimised(part) for _, part in _parts(model)):
        raise InvalidInputError(
            f"The model in {folder} is not optimised: load it with {chosen.__name__}.from_pretrained, and call "
            "ov_moe.optimum.optimize(model)."
        )
    _compile_with_kernels(model)
    if compile:
        model.compile()
    return model


def _modeling(model_class: type[OVBaseModel] | None) -> tuple[Any, type[OVBaseModel]]:
    """optimum-intel's module of models, and the class to load."""
    try:
        modeling = importlib.import_module(_MODELING)
        chosen = model_class or importlib.import_module("optimum.intel").OVModelForCausalLM
    except ImportError as error:
        raise DeviceError(
            f"optimum-intel cannot be imported ({error}): install it, as with pip install 'ov-moe[optimum]'."
        ) from error
    if not (isinstance(chosen, type) and issubclass(chosen, modeling.OVModelHostMixin)):
        raise InvalidInputError(f"model_class is {chosen!r}, it must be an OVModel class, as OVModelForCausalLM.")
    return modeling, chosen


def _from_pretrained(model_class: type[OVBaseModel], folder: Path, **options: Any) -> Any:
    """The model; what optimum-intel, transformers or OpenVINO raise for a folder or an option is of any type."""
    try:
        return model_class.from_pretrained(folder, **options)
    except OvMoeError:
        raise
    except Exception as error:
        missing = "" if (folder / "config.json").is_file() else ", there is no config.json in it"
        raise InvalidInputError(
            f"optimum-intel cannot load {folder} as {model_class.__name__}{missing} ({message_of(error)}): give a "
            "folder with all that save_pretrained writes, and options that from_pretrained takes."
        ) from error


def _parts(host: OVModelHostMixin, seen: set[int] | None = None) -> Iterator[tuple[Any, ov.Model]]:
    """Each OpenVINO model with the object that compiles it: the innermost one that knows it."""
    seen = set() if seen is None else seen
    for component in host.components.values():
        yield from _parts(component, seen)
    for model in host.ov_models.values():
        if isinstance(model, ov.CompiledModel):
            raise InvalidInputError(
                f"This {type(host).__name__} was loaded with compile_only=True: load it without, so that its "
                "OpenVINO model can be rewritten."
            )
        if isinstance(model, ov.Model) and id(model) not in seen:
            seen.add(id(model))
            yield host, model


def _optimised(model: ov.Model) -> bool:
    return any(moe_operations(model))


def _compile_with_kernels(model: OVModelHostMixin) -> None:
    """Make every part with ov-moe's operations compile with the custom layers of the device it then has.

    Each such object gets a ``compile`` of its own, without a reference to itself: deleting a model frees its weights
    at once.
    """
    for host in [host for host, part in _parts(model) if _optimised(part)]:
        host.compile = functools.partial(_compile, weakref.ref(host))


def _compile(reference: weakref.ref[Any]) -> None:
    host: Any = reference()
    compile_plainly = functools.partial(type(host).compile, host)
    if host.request is not None:
        compile_plainly()
        return
    core = sys.modules[_MODELING].core
    config = host.ov_config
    for owner, part in _parts(host):
        if owner is host and _optimised(part):
            host.ov_config = prepare(core, part, host._device, config)
    try:
        with translated(f"OpenVINO cannot compile {type(host).__name__} for {host._device}"):
            compile_plainly()
    finally:
        host.ov_config = config
