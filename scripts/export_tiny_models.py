"""Exports tiny Mixture-of-Experts language models with random weights as OpenVINO IRs, for demos and tests.

The weights come from a seed and nothing is downloaded; no tokenizer is written. It needs PyTorch,
optimum-intel and NNCF: ``pip install "ov-moe[optimum]"``. ``--help`` lists the options.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import tempfile
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from tiny_configs import ARCHITECTURES, configuration

from ov_moe.commands.options_record import command_from
from ov_moe.errors import DeviceError, InvalidInputError, OvMoeError
from ov_moe.folder.swap import recover
from ov_moe.folder.write import check_replaceable, whole_folder

if TYPE_CHECKING:
    import openvino as ov

MODEL_FILE = "openvino_model.xml"


class Precision(str, Enum):
    """How the weights are stored."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"


@dataclass(frozen=True)
class TinyModel:
    """The sizes that every architecture understands; all are counts of elements, heads, layers or tokens.

    Attributes:
        experts: Experts in each layer (E).
        top_k: Experts that serve one token (k).
        layers: Decoder layers, each with one block of experts.
        hidden: Features of a token (H).
        intermediate: Features inside one expert (I).
        heads: Attention heads.
        kv_heads: Heads of the key-value cache.
        head_dim: Features of one head.
        vocab: Number of tokens known to the model (V).
        initializer_range: Standard deviation of the random weights; 0.2 sets the logits clearly apart.
    """

    experts: int
    top_k: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    initializer_range: float

    def __post_init__(self) -> None:
        counts = {name: value for name, value in asdict(self).items() if name != "initializer_range"}
        for name, value in counts.items():
            if value < 1:
                raise InvalidInputError(f"{name} must be at least 1, not {value}.")
        if self.top_k > self.experts:
            raise InvalidInputError(f"top_k is {self.top_k}, but there are only {self.experts} experts.")
        if self.heads % self.kv_heads:
            raise InvalidInputError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads}).")
        if self.head_dim % 2:
            raise InvalidInputError(f"head_dim must be even for rotary positions, not {self.head_dim}.")
        if not 0 < self.initializer_range < float("inf"):
            raise InvalidInputError(f"initializer_range must be positive and finite, not {self.initializer_range}.")


def check_extra() -> None:
    """Raises DeviceError when one of the packages of the ``optimum`` extra is not installed."""
    missing = []
    for module in ("torch", "transformers", "optimum.intel", "nncf"):
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:  # the parent package of a dotted name
            found = False
        if not found:
            missing.append(module)
    if missing:
        raise DeviceError(
            f'Exporting a model needs {", ".join(missing)}, not installed here: run pip install "ov-moe[optimum]".'
        )


def export_ir(architecture: str, tiny: TinyModel, seed: int, folder: Path) -> ov.Model:
    """Exports one random model with f32 weights and writes its configuration files.

    Args:
        architecture: A name in ARCHITECTURES.
        tiny: The sizes of the model.
        seed: Seed of the weights.
        folder: Where config.json and generation_config.json are written (and nothing else).

    Returns:
        The stateful model: input_ids, attention_mask and position_ids i64 [B,S], beam_idx i32 [B] ->
        logits f32 [B,S,V].
    """
    import torch
    from optimum.exporters.openvino import export_from_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = configuration(architecture, tiny)
    source = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with tempfile.TemporaryDirectory() as raw:
        export_from_model(source, raw, task="text-generation-with-past", stateful=True)
        for name in ("config.json", "generation_config.json"):
            shutil.copyfile(Path(raw) / name, folder / name)
        return _output_features_first(_read(Path(raw) / MODEL_FILE))


def _output_features_first(model: ov.Model) -> ov.Model:
    """Experts' weights [E, K, N] turned into [E, N, K], as optimum-intel's own compression leaves them.

    Only GPT-OSS keeps them the other way round in an export without compression.
    """
    import openvino as ov
    from openvino import opset13 as ops
    from openvino.utils import replace_node

    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul" or node.get_attributes()["transpose_b"]:
            continue
        weights = node.input_value(1).get_node()
        if isinstance(weights, ov.op.Constant) and len(weights.shape) == 3:
            turned = ops.constant(np.ascontiguousarray(weights.data.swapaxes(1, 2)))
            matmul = ops.matmul(node.input_value(0), turned, node.get_attributes()["transpose_a"], True)
            turned.set_friendly_name(weights.get_friendly_name())
            matmul.set_friendly_name(node.get_friendly_name())
            replace_node(node, matmul)
    return model


def _read(path: Path) -> ov.Model:
    """Reads an IR into memory of its own, so that the files may go away."""
    import openvino as ov

    core = ov.Core()
    core.set_property({"ENABLE_MMAP": False})
    return core.read_model(path)


def _weight(node: ov.Node) -> ov.Node:
    """What feeds port 1 of ``node``, behind the Convert of f16 weights."""
    weight = node.input_value(1).get_node()
    return weight.input_value(0).get_node() if weight.get_type_name() == "Convert" else weight


def _weighted_nodes(model: ov.Model) -> tuple[list[ov.Node], list[ov.Node]]:
    """The operations that hold weights: those of the experts (matrices [E,N,K]) and all others."""
    experts: list[ov.Node] = []
    others: list[ov.Node] = []
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("MatMul", "Gather", "Convolution", "GroupConvolution"):
            weight = _weight(node)
            rank = len(weight.get_output_partial_shape(0)) if weight.get_type_name() == "Constant" else 0
            (experts if node.get_type_name() == "MatMul" and rank == 3 else others).append(node)
    return experts, others


def halve_matrices(model: ov.Model) -> ov.Model:
    """Stores the matrices [N,K] outside the experts in f16, all other constants as they are in f32.

    This comes before quantization: ``save_model(compress_to_fp16=True)`` leaves a quantized model in f32. On
    an f32 model it halves every constant, so all but the matrices outside the experts are put back.

    Args:
        model: A model with f32 weights.

    Returns:
        A new model.
    """
    import openvino as ov
    from openvino.utils import replace_node

    constants = (node for node in model.get_ordered_ops() if node.get_type_name() == "Constant")
    exact = {node.get_friendly_name(): node for node in constants}
    with tempfile.TemporaryDirectory() as raw:
        ov.save_model(model, Path(raw) / MODEL_FILE, compress_to_fp16=True)
        halved = _read(Path(raw) / MODEL_FILE)
    for node in halved.get_ordered_ops():
        name = node.get_friendly_name()
        if node.get_type_name() != "Convert" or name not in exact:
            continue
        shape = exact[name].get_output_shape(0)
        if len(shape) != 2 or min(shape) == 1:
            constant = ov.op.Constant(exact[name].data.copy())
            constant.set_friendly_name(name)
            replace_node(node, constant)
    return halved


def compress(
    model: ov.Model, precision: Precision, *, only_experts: bool, symmetric: bool, group_size: int
) -> ov.Model:
    """Compresses the weights to int8 or int4; other precisions are a matter of how the model is saved.

    Args:
        model: A model whose experts have f32 weights.
        precision: What the weights become; nothing happens here for fp32 and fp16.
        only_experts: Leave everything but the matrices [E,N,K] of the experts as it is.
        symmetric: No zero points.
        group_size: Elements of K that share a scale in int4, or -1 for one scale a channel.

    Raises:
        InvalidInputError: ``only_experts`` is set and no expert matrices are in the model.
    """
    if precision not in (Precision.INT8, Precision.INT4):
        return model
    import nncf

    ignored = None
    if only_experts:
        experts, others = _weighted_nodes(model)
        if not experts:
            raise InvalidInputError(
                "The exported model has no expert matrices [E,N,K], so that only_experts cannot be served."
            )
        ignored = nncf.IgnoredScope(names=[node.get_friendly_name() for node in others])
    modes = nncf.CompressWeightsMode
    if precision is Precision.INT8:
        mode = modes.INT8_SYM if symmetric else modes.INT8_ASYM
        return nncf.compress_weights(model, mode=mode, ignored_scope=ignored)
    return nncf.compress_weights(
        model,
        mode=modes.INT4_SYM if symmetric else modes.INT4_ASYM,
        group_size=group_size,
        ratio=1.0,
        ignored_scope=ignored,
        # Otherwise the last layer gets 8 bits, and with only_experts that must not be the last expert matrix.
        all_layers=only_experts,
    )


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the command line."""

    output: Annotated[Path, typer.Argument(help="Folder to write; it appears whole or not at all.")]
    architecture: Annotated[str, typer.Option(help="One of: " + ", ".join(ARCHITECTURES))] = "qwen3_moe"
    experts: Annotated[int, typer.Option(help="Experts in each layer.")] = 64
    top_k: Annotated[int, typer.Option(help="Experts that serve one token.")] = 8
    layers: Annotated[int, typer.Option(help="Decoder layers.")] = 2
    hidden: Annotated[int, typer.Option(help="Features of a token.")] = 128
    intermediate: Annotated[int, typer.Option(help="Features inside one expert.")] = 64
    heads: Annotated[int, typer.Option(help="Attention heads.")] = 2
    kv_heads: Annotated[int, typer.Option(help="Heads of the key-value cache.")] = 1
    head_dim: Annotated[int, typer.Option(help="Features of one head.")] = 32
    vocab: Annotated[int, typer.Option(help="Tokens in the vocabulary.")] = 256
    initializer_range: Annotated[float, typer.Option(help="Standard deviation of the weights.")] = 0.2
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0
    precision: Annotated[Precision, typer.Option(help="How the weights are stored.")] = Precision.INT4
    only_experts: Annotated[
        bool,
        typer.Option("--only-experts", help="int8, int4: compress the experts alone, keep the rest f16."),
    ] = False
    symmetric: Annotated[bool, typer.Option("--symmetric", help="int8, int4: no zero points.")] = False
    group_size: Annotated[int, typer.Option(help="int4: weights that share a scale; -1: a channel.")] = 32
    force: Annotated[bool, typer.Option("--force", help="Replace the folder, if all in it was written so.")] = False

    def check(self) -> TinyModel:
        """The sizes; raises InvalidInputError for what cannot be exported."""
        if self.architecture not in ARCHITECTURES:
            raise InvalidInputError(f"{self.architecture} is not one of {', '.join(ARCHITECTURES)}.")
        tiny = TinyModel(**{field.name: getattr(self, field.name) for field in dataclass_fields(TinyModel)})
        quantized = self.precision in (Precision.INT8, Precision.INT4)
        if (self.only_experts or self.symmetric) and not quantized:
            raise InvalidInputError(
                f"--only-experts and --symmetric mean something for int8 and int4, not for {self.precision.value}."
            )
        contracted = {"hidden": self.hidden, "intermediate": self.intermediate}
        if not self.only_experts:
            contracted["heads x head_dim"] = self.heads * self.head_dim
        if self.precision is Precision.INT4 and self.group_size != -1:
            for name, size in contracted.items():
                if self.group_size < 1 or size % self.group_size:
                    raise InvalidInputError(f"group_size must divide {name} ({size}) or be -1, not {self.group_size}.")
        return tiny

    def readme(self) -> str:
        """The page that says what the model is and by which command it was made."""
        flags = []
        for name, value in asdict(self).items():
            flag = "--" + name.replace("_", "-")
            if name in ("output", "architecture", "force"):
                continue
            if value is True:
                flags.append(flag)
            elif value is not False:
                text = value.value if isinstance(value, Precision) else str(value)
                flags.append(f"{flag} {shlex.quote(text)}")
        lines = [f"python scripts/export_tiny_models.py OUT --architecture {self.architecture}"]
        for flag in flags:
            if len(lines[-1]) + len(flag) > 96:
                lines.append("   ")
            lines[-1] += f" {flag}"
        command = " \\\n".join(lines)
        packages = ("openvino", "optimum-intel", "nncf", "torch", "transformers")
        versions = ", ".join(f"{name} {version(name).split('+')[0]}" for name in packages)
        return (
            f"# A tiny {self.architecture} model\n\n"
            "The weights are random: the model shows how Mixture-of-Experts blocks look and run, and its text\n"
            "means nothing. There is no tokenizer: feed it token ids below the vocabulary size.\n\n"
            f"Made by\n\n```\n{command}\n```\n\nwith {versions}.\n"
        )


def main(options: Options) -> None:
    """Exports one tiny Mixture-of-Experts model with random weights as an OpenVINO IR."""
    output = options.output
    try:
        tiny = options.check()
        check_extra()
        recover(output.absolute().parent)
        with whole_folder(output, check_replaceable(output, options.force)) as fresh:
            _export(options, tiny, fresh.folder)
    except OvMoeError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    size = sum(path.stat().st_size for path in output.iterdir())
    typer.echo(f"{output}: {size / 1e6:.2f} MB")


def _export(options: Options, tiny: TinyModel, folder: Path) -> None:
    model = export_ir(options.architecture, tiny, options.seed, folder)
    if options.only_experts:
        model = halve_matrices(model)
    kind = {"only_experts": options.only_experts, "symmetric": options.symmetric, "group_size": options.group_size}
    model = compress(model, options.precision, **kind)
    import openvino as ov

    ov.save_model(model, folder / MODEL_FILE, compress_to_fp16=options.precision is Precision.FP16)
    (folder / "README.md").write_text(options.readme(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(command_from(Options, main))
