"""openvino-genai: folders with a rewritten model, and the LLMPipeline that runs them.

Importing this module does not import openvino-genai; ``pipeline`` does. ``pip install 'ov-moe[genai]'`` brings it, of
the same release as openvino.
"""

from __future__ import annotations

import importlib
import logging
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openvino as ov

from ov_moe.arguments import check_type, to_path
from ov_moe.compiler import prepare
from ov_moe.devices.target import parse_target
from ov_moe.errors import DeviceError, InvalidInputError
from ov_moe.folder.read import read
from ov_moe.folder.run import optimize_folder
from ov_moe.model_cache import without_weights
from ov_moe.openvino_errors import message_of, translated
from ov_moe.ops.registry import OPERATIONS, register
from ov_moe.report import Report
from ov_moe.spec import Balance
from ov_moe.transformations.cached import misplaced_conditions
from ov_moe.transformations.operations import moe_operations

if TYPE_CHECKING:
    from openvino_genai import LLMPipeline

logger = logging.getLogger("ov_moe")
MODEL = "openvino_model.xml"
_FOR_TEXT = ("openvino_tokenizer.xml", "openvino_detokenizer.xml")


def optimize(
    source: str | PathLike[str],
    target: str | PathLike[str],
    balance: Balance | None = None,
    *,
    max_tokens: int | None = None,
    few_tokens: int | None = None,
    force: bool = False,
) -> Report:
    """Write an optimised copy of a model's folder: what ``ov-moe optimize`` does, as a function.

    Args:
        source: A folder with ``openvino_model.xml`` and, beside it, tokenizers and configurations.
        target: The folder to write, which must not exist without ``force``; it appears whole or not at all.
        balance: As for ``ov_moe.optimize``.
        max_tokens: As for ``ov_moe.optimize``.
        few_tokens: As for ``ov_moe.optimize``.
        force: Replace ``target`` where it exists and is empty, or ov-moe wrote all that is in it, unchanged since.

    Returns:
        What was rewritten, and what was left alone with the reason, in all models of the folder.

    Raises:
        InvalidInputError: There is no model in ``source``, it is optimised already, it has no MoE block that could
            be rewritten, ``target`` exists, or an argument or variable is out of range; nothing was written.
        OvMoeError: Writing failed, as on a full disk; nothing was written.
    """
    done = optimize_folder(
        to_path("source", source),
        to_path("target", target),
        balance,
        max_tokens=max_tokens,
        few_tokens=few_tokens,
        force=force,
    )
    reports = [ir.report for ir in done.irs if ir.report]
    skipped = tuple(region for report in reports for region in report.skipped)
    if not done.rewritten:
        if done.already:
            raise InvalidInputError(
                f"The model in {source} is already optimised: give the folder to ov_moe.genai.pipeline."
            )
        reason = skipped[0].reason if skipped else "none was found."
        raise InvalidInputError(f"The model in {source} has no MoE block that can be rewritten: {reason}")
    rewritten = tuple(block for report in reports for block in report.rewritten)
    return Report(rewritten, skipped, reports[0].balance, reports[0].max_tokens, already=done.already)


def pipeline(folder: str | PathLike[str], device: str = "GPU", **options: Any) -> LLMPipeline:
    """An LLMPipeline on an optimised folder.

    The model cache: openvino-genai reads the model itself, so that its operations cannot get the hash of the kernels
    that a device is served with, and a cache would not see that kernels have changed. A CACHE_DIR is therefore
    replaced by a folder inside it, named by that hash: another version of ov-moe never meets this one's cache.

    Args:
        folder: What ``ov_moe.genai.optimize`` wrote, or ``save_pretrained`` of a model that ``ov_moe.optimum.optimize``
            rewrote, with openvino_tokenizer.xml and openvino_detokenizer.xml beside it for prompts that are text. Where
            they are missing, a warning on the logger ``ov_moe`` says how to make them: prompts of token ids need none.
        device: ``GPU``, ``GPU.n``, ``AUTO:GPU``, ``MULTI:GPU`` or ``CPU`` (there the operations run outside the
            plugin, which is for checking).
        **options: For LLMPipeline: ``scheduler_config``, ``draft_model``, ``ATTENTION_BACKEND`` and the device's
            properties. ``extensions`` of your own are added to ov-moe's.

    Returns:
        An ``openvino_genai.LLMPipeline``.

    Raises:
        InvalidInputError: There is no model in the folder, it is not optimised, an option is refused, or the options
            name a CONFIG_FILE.
        DeviceError: The device is not served, this machine lacks it, or openvino-genai cannot be imported or make a
            pipeline.
    """
    folder = to_path("folder", folder)
    core, extensions = ov.Core(), options.get("extensions", ())
    model = _read(core, folder, extensions)
    if misplaced_conditions(model) and without_weights(core, parse_target(core, device), options):
        logger.warning(
            "CACHE_MODE=OPTIMIZE_SIZE: an older ov-moe wrote %s, and the cache will never be loaded: write the folder "
            "again with ov-moe optimize, or leave CACHE_MODE out.",
            folder,
        )
    properties = prepare(core, model, device, options)
    del model
    if "CONFIG_FILE" in properties and properties.get("CACHE_DIR"):
        kernels = Path(properties["CONFIG_FILE"]).parent.name
        properties["CACHE_DIR"] = str(Path(properties["CACHE_DIR"]) / f"ov-moe-{kernels}")
    properties["extensions"] = [*OPERATIONS, *extensions]
    with translated(f"openvino-genai cannot make a pipeline of {folder} on {device}"):
        made = _library().LLMPipeline(str(folder), device, **properties)
    _warn_without_tokenizer(folder)
    return made


def _read(core: ov.Core, folder: Path, extensions: Any) -> ov.Model:
    """The optimised model of a folder; the Core gets the extensions, and ov-moe's."""
    check_type("extensions", extensions, (list, tuple), "a list")
    for extension in extensions:
        with translated(f"OpenVINO cannot load the extension {extension}"):
            core.add_extension(extension)
    register(core)
    if not (folder / MODEL).is_file():
        raise InvalidInputError(f"There is no {MODEL} in {folder}: give the folder of an exported language model.")
    model = read(core, folder / MODEL)
    if not any(moe_operations(model)):
        raise InvalidInputError(
            f"The model in {folder} is not optimised: write an optimised folder with ov_moe.genai.optimize first."
        )
    return model


def _warn_without_tokenizer(folder: Path) -> None:
    missing = [name for name in _FOR_TEXT if not (folder / name).is_file()]
    if missing:
        logger.warning(
            "%s has no %s, so that the pipeline takes and gives token ids only: make both with "
            "`convert_tokenizer MODEL --with-detokenizer -o %s`, MODEL being the folder of the original tokenizer.",
            *(folder, " and no ".join(missing), folder),
        )


def _library() -> Any:
    try:
        return importlib.import_module("openvino_genai")
    except ImportError as error:
        raise DeviceError(
            f"openvino-genai cannot be imported ({message_of(error)}): install the release that belongs to openvino "
            f"{ov.__version__}, as with pip install 'ov-moe[genai]'."
        ) from error
