"""The demonstration itself: reference, three variants, table, verdict. Imports openvino: see ``place``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import openvino as ov
from rich.console import Console

from ov_moe.commands.model_files import find_model
from ov_moe.compiler import compile_model
from ov_moe.demo import MODEL, PROMPT
from ov_moe.demo.measure import Row, make_reference, measure
from ov_moe.demo.table import times, to_table
from ov_moe.devices.place import Place
from ov_moe.devices.target import parse_target
from ov_moe.errors import InvalidInputError, OvMoeError
from ov_moe.folder.read import read, read_original
from ov_moe.openvino_errors import translated
from ov_moe.optimizer import optimize
from ov_moe.spec import Balance

# Largest deviation of a logit from the reference, over the reference's largest logit: f32 against f32.
ERROR_BOUND = 1e-3

# Without the last two the plugins keep keys and values in f16 or u8, and may quantize what meets 4-bit weights.
_EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}
_BALANCES: tuple[Balance, ...] = ("off", "on")


# Fewer than the prompt: its prefill then takes the way of long prompts, where balance matters.
FEW_TOKENS = 8


def run_demo(place: Place, tokens: int, model: Path | None, console: Console) -> None:
    """Rewrite, compile, compare, time, print.

    Args:
        place: Where to run.
        tokens: Tokens to generate, at least 2.
        model: An IR, or a folder with openvino_model.xml; None takes the model that the package brings along.
        console: Where to print.

    Raises:
        OvMoeError: The model or the device cannot be served, or a variant is not what the reference is.
    """
    core = ov.Core()
    target = parse_target(core, place.device)
    path = find_model(MODEL if model is None else model)
    prompt = np.array([PROMPT], np.int64)

    report = optimize(read_original(core, path), few_tokens=FEW_TOKENS)
    console.print(f"Model: {path}", highlight=False, soft_wrap=True)
    console.print(report.table())
    if not report.rewritten:
        raise InvalidInputError(f"{path} holds no MoE block that ov-moe can rewrite: the report says why.")
    device = f"Device: {target.name}, {target.full_name}. {place.why}".rstrip()
    console.print(device, highlight=False, soft_wrap=True)

    blocks = len(report.rewritten)

    def unfused(device: str) -> ov.CompiledModel:
        with translated(f"OpenVINO cannot compile the unfused model for {device}"):
            return core.compile_model(read(core, path), device, _EXACT)

    def rewritten(balance: Balance) -> ov.CompiledModel:
        network = read(core, path)
        optimize(network, balance, few_tokens=FEW_TOKENS)
        return compile_model(core, network, place.device, _EXACT)

    reference = make_reference(unfused("CPU"), prompt, tokens)
    rows = [measure("unfused", 0, partial(unfused, place.device), reference, counted=place.virtual)]
    for balance in _BALANCES:
        build = partial(rewritten, balance)
        rows.append(measure(f"balance {balance}", blocks, build, reference, counted=place.virtual))
    console.print(to_table(rows, prompt.shape[1], tokens))
    console.print(f"Tokens: {' '.join(map(str, reference.tokens[0]))}", highlight=False, soft_wrap=True)
    console.print(times(target, place), highlight=False, soft_wrap=True)
    console.print(_identity(rows[1], rows[2]), highlight=False, soft_wrap=True)
    check(rows)


def check(rows: list[Row]) -> None:
    """Raise OvMoeError for the first variant that is too far from the reference."""
    for row in rows:
        if not row.error <= ERROR_BOUND:
            raise OvMoeError(f"The logits of {row.variant!r} deviate by {row.error:.1e}, more than {ERROR_BOUND:.0e}.")
        if not row.same_tokens:
            raise OvMoeError(f"{row.variant!r} generated other tokens than the reference.")


def _identity(off: Row, on: Row) -> str:
    if np.array_equal(off.logits, on.logits):
        return f"Balance on and off: all {off.logits.size} logits bit-identical."
    difference = np.abs(off.logits - on.logits).max()
    return f"Balance on and off: logits NOT bit-identical, largest difference {difference:.1e}."
