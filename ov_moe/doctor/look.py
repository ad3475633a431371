"""Looks at one thing and returns what it found: what ``ask`` calls, each in a process of its own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ov_moe.demo import MODEL, PROMPT
from ov_moe.devices import opencl_list
from ov_moe.options import Config

# Room of the probe's buffers: the largest of them, 16 MiB, stands out from all else that the small model needs.
_PROBE_TOKENS = 4096
_PROBE_NEW_TOKENS = 4


def opencl() -> dict[str, Any]:
    """Every OpenCL platform with its devices."""
    return opencl_list.listed()


def cpu_runtime() -> dict[str, Any]:
    """The same of Intel's runtime for CPUs as pip installs it, which no system driver lists."""
    from ov_moe.devices import intel_cpu_runtime

    intel_cpu_runtime.use()
    return opencl()


def openvino() -> dict[str, Any]:
    """Every device of OpenVINO with the properties that matter here, as text or numbers."""
    import openvino as ov

    from ov_moe.devices import machine

    core = ov.Core()
    return {
        "version": ov.get_version(),
        "devices": {name: machine.properties(core, name) for name in core.available_devices},
    }


def model(path: str, device: str) -> dict[str, Any]:
    """What rewriting a model for a device gives: blocks, reasons, kernels, builds, sizes."""
    import openvino as ov

    from ov_moe.compiler import kernel_config
    from ov_moe.devices.target import activations, parse_target
    from ov_moe.folder.read import read
    from ov_moe.ops import register
    from ov_moe.optimizer import optimize
    from ov_moe.transformations.operations import layer_of, moe_operations, port_bytes

    core, config = ov.Core(), Config.from_environment()
    register(core)
    network = read(core, Path(path))
    already = any(True for _ in moe_operations(network))
    blocks, skipped = list[dict[str, Any]](), list[str]()
    if not already:
        report = optimize(network, config.balance, max_tokens=config.max_tokens, few_tokens=config.few_tokens)
        blocks = [asdict(block) for block in report.rewritten]
        skipped = [f"{region.name}: {region.reason}" for region in report.skipped]
    operations = list(moe_operations(network))
    target, kernels = parse_target(core, device), None
    if operations:
        real = activations(core, target, {})
        kernels = kernel_config(network, target, config.fetch, config.groups, config.micro_kernel, real)
    return {
        "already": already,
        "blocks": blocks or [{"name": each} for each in sorted(set(map(layer_of, operations)))],
        "skipped": skipped,
        "builds": len(operations),
        "kernels": {"prefill": kernels.prefill.settings(), "decode": kernels.decode.settings()} if kernels else None,
        "why": kernels.why if kernels else "",
        "largest_buffer": max((port_bytes(node.output(0)) for node in operations), default=0),
        "weights": Path(path).with_suffix(".bin").stat().st_size,
        "cache_beside": [str(each) for each in Path(path).parent.glob("model_cache")],
    }


def probe(device: str, cache: str) -> dict[str, Any]:
    """Rewrite, compile and run the demonstration's model, with a model cache in the folder ``cache``."""
    from time import perf_counter

    import numpy as np
    import openvino as ov

    from ov_moe.compiler import compile_model
    from ov_moe.devices.machine import builds, device_bytes
    from ov_moe.devices.target import parse_target
    from ov_moe.folder.read import read
    from ov_moe.generate import Session, greedy
    from ov_moe.optimizer import optimize
    from ov_moe.transformations.operations import moe_operations, port_bytes

    core = ov.Core()
    target = parse_target(core, device)
    exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    path, prompt = MODEL / "openvino_model.xml", np.array([PROMPT], np.int64)
    expected, _ = greedy(Session(core.compile_model(read(core, path), "CPU", exact)), prompt, _PROBE_NEW_TOKENS)
    network = read(core, path)
    optimize(network, "on", max_tokens=_PROBE_TOKENS, few_tokens=_PROBE_TOKENS)
    operations = list(moe_operations(network))
    # Of the operations that run here, not of those inside a loop for longer prompts.
    outer = [node for node in network.get_ordered_ops() if node.get_type_name().startswith("MoE")]
    start = perf_counter()
    compiled = compile_model(core, network, device, {**exact, "CACHE_DIR": cache})
    seconds = perf_counter() - start
    tokens, _ = greedy(Session(compiled), prompt, _PROBE_NEW_TOKENS)
    return {
        "tokens": tokens[0].tolist(),
        "expected": expected[0].tolist(),
        "compile_s": seconds,
        "operations": len(operations),
        "builds": builds(),
        "largest_buffer": max(port_bytes(node.output(0)) for node in outer),
        "memory": device_bytes(core, target),
        "cached_files": len(list(Path(cache).glob("*.blob"))),
    }
