"""The command ``ov-moe doctor``. Does not import openvino: it asks other processes."""

from __future__ import annotations

import json as json_module
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import ov_moe
from ov_moe.commands.console import tables
from ov_moe.commands.guard import one_sentence
from ov_moe.commands.model_files import find_model
from ov_moe.commands.output_files import check_writable, write_whole
from ov_moe.devices.device_names import plain_name
from ov_moe.doctor.ask import ask
from ov_moe.doctor.checks import (
    CPU,
    check_config,
    check_cpu_runtime,
    check_device_string,
    check_devices,
    check_gpu,
    check_opencl,
)
from ov_moe.doctor.finding import Finding
from ov_moe.doctor.model_checks import check_model, check_probe
from ov_moe.errors import OvMoeError
from ov_moe.options import Config
from ov_moe.storage.drafts import scratch

# Raised when a field of the JSON changes its meaning or goes.
SCHEMA_VERSION = 1

_WIDTH = 150
_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "failed": "bold red"}


def command(
    model: Annotated[Path | None, typer.Argument(help="An IR (.xml) or its folder, rewritten or not.")] = None,
    device: Annotated[
        str, typer.Option("--device", "-d", help="auto (the first real GPU, else the virtual GPU), GPU, GPU.n or CPU.")
    ] = "auto",
    probe: Annotated[bool, typer.Option(help="Compile and run a small model: half a minute on a cold start.")] = True,
    json: Annotated[Path | None, typer.Option(help="Write all facts and findings.")] = None,
) -> None:
    """Look at devices, drivers, options and a model; say what ov-moe will do, and what to do about each trap."""
    with one_sentence():
        path = None if model is None else find_model(model)
        check_writable((json,))
        config = Config.from_environment()
        facts, findings = examine(config, device, path, probe)
        _print(config, findings)
        if json is not None:
            content = {
                "schema_version": SCHEMA_VERSION,
                "ov_moe": ov_moe.__version__,
                "config": [asdict(option) for option in config.options()],
                "findings": [asdict(finding) for finding in findings],
                "facts": facts,
            }
            write_whole(json, json_module.dumps(content, indent=1) + "\n")
        failed = [finding.check for finding in findings if finding.level == "failed"]
        if failed:
            raise OvMoeError(f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}.")


def examine(config: Config, device: str, model: Path | None, probe: bool) -> tuple[dict[str, Any], list[Finding]]:
    """All facts and findings.

    Args:
        config: The options in force.
        device: As on the command line.
        model: An IR, or None.
        probe: Whether to compile and run the small model.
    """
    refused = check_device_string(device)
    facts: dict[str, Any] = {what: ask(what) for what in ("opencl", "cpu_runtime", "openvino")}
    devices: dict[str, Any] = facts["openvino"].get("devices", {})
    virtual = device == "auto" and not any(name.startswith("GPU") for name in devices)
    if virtual:
        facts["openvino"] = ask("openvino", virtual=True)
        devices = facts["openvino"].get("devices", {})
    stands_in = virtual or config.virtual_gpu
    findings = [*check_config(config, os.environ), *check_opencl(facts["opencl"])]
    findings += check_cpu_runtime(facts["cpu_runtime"])
    findings += [*check_devices(facts["openvino"], stands_in), refused]
    name = _plain(device, devices)
    if refused.level == "failed" or "error" in facts["openvino"]:
        return facts, findings
    if name not in devices:
        advice = "install its OpenCL driver, or leave --device out"
        return facts, [*findings, Finding("failed", "device", f"OpenVINO sees no {name} here", advice)]
    findings += check_gpu(name, devices[name]) if name != "CPU" else [CPU]
    total = int(devices[name].get("GPU_DEVICE_TOTAL_MEM_SIZE", 0))
    if model is not None:
        facts["model"] = ask("model", str(model), name, virtual=virtual)
        findings += check_model(facts["model"], total, name != "CPU")
    if probe:
        with scratch("ov-moe-doctor") as cache:
            facts["probe"] = ask("probe", name, str(cache), virtual=virtual)
            again = None if "error" in facts["probe"] else ask("probe", name, str(cache), virtual=virtual)
            facts["probe_cached"] = again
        discrete = str(devices[name].get("DEVICE_TYPE", "")).upper() == "DISCRETE"
        findings += check_probe(facts["probe"], again, discrete)
    return facts, findings


def _plain(device: str, devices: dict[str, Any]) -> str:
    """The device's name in OpenVINO's list."""
    gpus = [name for name in devices if name.startswith("GPU")]
    if device == "auto":
        return gpus[0] if gpus else "CPU"
    name = plain_name(device) or device
    # One GPU is listed as GPU, several as GPU.0, GPU.1, ...
    other = {"GPU": "GPU.0", "GPU.0": "GPU"}.get(name, name)
    return other if name not in devices and other in devices else name


def _print(config: Config, findings: list[Finding]) -> None:
    console = tables(_WIDTH)
    options = Table(title=f"ov-moe {ov_moe.__version__}: options", title_justify="left")
    for column in ("option", "value", "default", "variable"):
        options.add_column(column, overflow="fold")
    for option in config.options():
        options.add_row(
            option.name, option.value, option.default, option.variable, style="bold" if option.changed else None
        )
    console.print(options)
    table = Table(title="Findings", title_justify="left")
    table.add_column("")
    for column in ("check", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        level = f"[{_STYLES[finding.level]}]{finding.level}[/]"
        table.add_row(level, finding.check, _literal(finding.found), _literal(finding.advice))
    console.print(table)


def _literal(text: str) -> str:
    return text.replace("[", r"\[")
