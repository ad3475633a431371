"""From facts to findings: the machine. Pure functions; the facts are those of ``ov_moe.doctor.look``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ov_moe.devices.device_names import plain_name
from ov_moe.devices.xmx import XMX, xmx_subgroup
from ov_moe.doctor.finding import Finding
from ov_moe.kernels.choose import OVER_PROVISION
from ov_moe.options import Config, unknown_variables

_GIB = 2**30

CPU = Finding(
    "note", "CPU", "ov-moe's operations run outside the plugin here", "use it to check results, not for speed"
)


def check_config(config: Config, environment: Mapping[str, str]) -> list[Finding]:
    """Options that differ from their defaults, and variables that are none."""
    changed = [option for option in config.options(environment) if option.changed]
    text = ", ".join(f"{option.variable}={option.value}" for option in changed)
    found = [Finding("note", "options", text or "all at their defaults")]
    found += [
        Finding("warning", "options", f"{name} is set, but no option of ov-moe", "check its spelling, or unset it")
        for name in unknown_variables(environment)
    ]
    return found


def check_opencl(facts: dict[str, Any]) -> list[Finding]:
    """OpenCL's platforms and devices."""
    name = "OpenCL"
    if "error" in facts:
        return [Finding("failed", name, facts["error"], "reinstall the OpenCL driver; clinfo shows which one breaks")]
    if not facts["platforms"]:
        advice = "install the GPU's OpenCL driver (Debian, Ubuntu: intel-opencl-icd) and join the group render"
        what = f"the system's drivers show no platform ({facts.get('reason', 'empty list')})"
        return [Finding("warning", name, what, advice)]
    return [Finding("ok", name, _platform(platform)) for platform in facts["platforms"]]


def check_cpu_runtime(facts: dict[str, Any]) -> list[Finding]:
    """Intel's OpenCL runtime for CPUs, on which the virtual GPU stands."""
    name = "OpenCL from pip"
    if "error" in facts or not facts["platforms"]:
        reason = facts.get("error") or facts.get("reason", "it shows no platform")
        return [Finding("note", name, f"no virtual GPU here: {reason}")]
    return [Finding("ok", name, f"{_platform(each)}; for the virtual GPU") for each in facts["platforms"]]


def _platform(platform: dict[str, Any]) -> str:
    devices = "; ".join(
        f"{each['name']}, driver {each['driver']}, {each['compute_units']} compute units"
        for each in platform["devices"]
    )
    return f"{platform['name']} ({platform['version']}): {devices or 'no device'}"


def check_devices(facts: dict[str, Any], virtual: bool) -> list[Finding]:
    """OpenVINO's devices, and whether a GPU is among them."""
    if "error" in facts:
        return [Finding("failed", "OpenVINO", facts["error"], "reinstall openvino, or repair the driver it loads")]
    devices = {name: each.get("FULL_DEVICE_NAME", "") for name, each in facts["devices"].items()}
    listed = ", ".join(f"{name} ({full})" for name, full in devices.items())
    found = [Finding("ok", "OpenVINO", f"{facts['version']}: {listed}")]
    if virtual:
        what = "the virtual GPU stands in: results, builds and memory are the plugin's, times are this CPU's"
        found.append(Finding("warning", "GPU", what, "on a machine with an Intel GPU install its OpenCL driver"))
    return found


def check_gpu(name: str, facts: dict[str, Any]) -> list[Finding]:
    """What one GPU has: matrix units, compute units, memory, default precision."""
    found = [
        Finding(
            "ok" if facts.get("driver") else "note",
            f"{name} driver",
            facts.get("driver") or "version unknown: OpenCL does not show the device by this name",
        )
    ]
    units = int(facts.get("GPU_EXECUTION_UNITS_COUNT", 0))
    found.append(
        Finding("ok", f"{name} compute units", f"{units}: the pool has {max(units, 1) * OVER_PROVISION} work-groups")
    )
    found.append(_xmx(name, facts))
    total, largest = (int(facts.get(f"GPU_DEVICE_{each}_MEM_SIZE", 0)) for each in ("TOTAL", "MAX_ALLOC"))
    kind = str(facts.get("DEVICE_TYPE", "unknown")).lower()
    text = f"{total / _GIB:.1f} GiB, at most {largest / _GIB:.1f} GiB in one buffer ({kind})"
    found.append(Finding("ok", f"{name} memory", text))
    found.append(_router(name, facts))
    return found


def _xmx(name: str, facts: dict[str, Any]) -> Finding:
    capabilities = facts.get("OPTIMIZATION_CAPABILITIES", [])
    if XMX not in capabilities:
        text = "no XMX: the plugin computes every expert for every token, unless ov-moe replaces the blocks"
        return Finding("ok", f"{name} XMX", text)
    version = str(facts.get("GPU_UARCH_VERSION", "unknown"))
    subgroup = xmx_subgroup(capabilities, version)
    ours = f"dpas with sub-groups of {subgroup}" if subgroup else "fma, not dpas"
    return Finding(
        "note",
        f"{name} XMX",
        f"architecture {version}: ov-moe takes {ours} for f16 activations. The plugin has a fused MoE of its own here; "
        "which is faster is not known before it is measured",
        f"compare: ov-moe bench MODEL --device {name} --variants unfused,on --prompt-tokens 128,1024",
    )


def _router(name: str, facts: dict[str, Any]) -> Finding:
    hint = str(facts.get("INFERENCE_PRECISION_HINT", ""))
    if hint not in ("f16", "float16", "bf16"):
        return Finding("ok", f"{name} router precision", f"{hint or 'unknown'} by default")
    return Finding(
        "note",
        f"{name} router precision",
        f"{hint} by default: where two experts are close, the router may pick another one than in f32",
        "where that matters compile with INFERENCE_PRECISION_HINT=f32, and compare logits, not texts",
    )


def check_device_string(device: str) -> Finding:
    """What ov-moe does with AUTO and HETERO, or that it does not serve this device."""
    advice = "use auto, GPU, GPU.n, AUTO:GPU, MULTI:GPU or CPU"
    if device == "auto" or plain_name(device):
        text = "HETERO and plain AUTO are refused: they would run the blocks on the CPU without saying so"
        return Finding("ok", "AUTO, HETERO", text)
    if device.partition(":")[0] in ("AUTO", "BATCH", "HETERO", "MULTI"):
        text = f"{device!r} is refused: it may run the blocks on the CPU without saying so"
        return Finding("failed", "AUTO, HETERO", text, advice)
    return Finding("failed", "device", f"{device!r} is no device that ov-moe serves", advice)
