"""From facts to findings: a model, and the probes that were run. Pure functions."""

from __future__ import annotations

from typing import Any

from ov_moe.doctor.finding import Finding, Level

# Offline builds for an Arc A770 (ocloc, acm-g10) with the plugin's own header: 0.52 s a trivial kernel, 0.57 s an int4
# GEMM. The cost is a program's, hardly its lines'.
BUILD_SECONDS = 0.55

_MIB, _GIB = 2**20, 2**30
_SIZES = ("tile_m", "tile_n", "tile_k", "local_size")


def check_model(facts: dict[str, Any], total_memory: int, gpu: bool = True) -> list[Finding]:
    """Which kernels a model would take, how long compiling may last, and whether it fits.

    Args:
        facts: Of ``look.model``.
        total_memory: Bytes of the device; 0 where it is not known.
        gpu: Whether the device is a GPU.
    """
    if "error" in facts:
        return [Finding("failed", "model", facts["error"], "correct that, or leave MODEL out to see the other checks")]
    found = [_blocks(facts)]
    found += [
        Finding(
            "warning", "model", f"left alone: {reason}", "it runs as without ov-moe; report it where it should match"
        )
        for reason in facts["skipped"]
    ]
    if not facts["kernels"]:
        return found
    found += [*_paths(facts), _compile_time(facts)] if gpu else []
    found.append(_memory(facts, total_memory))
    if facts["cache_beside"]:
        found.append(
            Finding(
                "note",
                "model cache",
                f"{facts['cache_beside'][0]} holds compiled models of this folder",
                "nothing: a changed kernel is a changed model; remove the folder to win back its space",
            )
        )
    return found


def _blocks(facts: dict[str, Any]) -> Finding:
    many = len(facts["blocks"])
    if facts["already"]:
        return Finding("ok", "model", f"rewritten already: {many} blocks")
    if not many:
        advice = "run it without ov-moe" if not facts["skipped"] else "see the reasons below"
        return Finding("warning", "model", "no MoE block that ov-moe can rewrite", advice)
    kinds = sorted({_kind(block) for block in facts["blocks"]})
    return Finding("ok", "model", f"{many} blocks will be rewritten: {'; '.join(kinds)}")


def _kind(block: dict[str, Any]) -> str:
    precision = " / ".join(block["precision"].values())
    return (
        f"{block['experts']} experts, top {block['top_k']}, hidden {block['hidden']}, "
        f"intermediate {block['intermediate']}, {precision}"
    )


def _paths(facts: dict[str, Any]) -> list[Finding]:
    """One finding for prefill and one for decode, each with its micro-kernel and sizes."""
    found = []
    for name, kernels in facts["kernels"].items():
        words = {
            "pool": f"pool of {kernels.get('groups')} work-groups, tasks by {kernels.get('fetch')}",
            "grid": "grid of work-groups, most of which find nothing where routing is uneven",
        }
        sizes = ", ".join([kernels["micro_kernel"], *(f"{key} {kernels[key]}" for key in _SIZES if key in kernels)])
        found.append(Finding("ok", f"kernels for {name}", f"{words[kernels['schedule']]} ({sizes})"))
    return [*found, _micro_kernel(facts["kernels"]["prefill"], facts["why"])]


def _micro_kernel(kernels: dict[str, Any], why: str) -> Finding:
    """What multiplies matrices; dpas is not proven on the device that it is for."""
    kind = kernels["micro_kernel"]
    if kind != "dpas":
        return Finding("ok", "micro-kernel", f"{kind}: {why}")
    text = f"dpas: {why} (f32 activations take fma in the same tiles)"
    if kernels["emulation"]:
        return Finding("warning", "micro-kernel", text, "unset OV_MOE_MICRO_KERNEL for any other use")
    return Finding(
        "note",
        "micro-kernel",
        f"{text}; it is tested through an emulation and built offline, but no real XMX device has run it",
        "compare tokens and times with OV_MOE_MICRO_KERNEL=fma",
    )


def _compile_time(facts: dict[str, Any]) -> Finding:
    builds = facts["builds"]
    seconds = builds * BUILD_SECONDS
    level: Level = "note" if seconds > 30 else "ok"
    return Finding(
        level,
        "compile time",
        f"about {seconds:.0f} s for ov-moe's kernels on an Intel GPU: an estimate, {builds} builds x {BUILD_SECONDS} s "
        "(offline builds for an Arc A770); the driver keeps them for the next time",
        "set CACHE_DIR to keep the compiled model" if level == "note" else "",
    )


def _memory(facts: dict[str, Any], total: int) -> Finding:
    weights, buffer = facts["weights"], facts["largest_buffer"]
    text = f"weights {weights / _GIB:.2f} GiB, ov-moe's largest buffer {buffer / _MIB:.1f} MiB"
    if total and weights + buffer > total:
        advice = "take a device with more memory, or weights of fewer bits"
        return Finding("failed", "model memory", f"{text}, but the device has {total / _GIB:.1f} GiB", advice)
    if total and weights > 0.8 * total:
        advice = "keep prompts and batches short: keys and values need memory as well"
        return Finding("warning", "model memory", f"{text} of {total / _GIB:.1f} GiB", advice)
    return Finding("ok", "model memory", text)


def check_probe(first: dict[str, Any], second: dict[str, Any] | None, discrete: bool) -> list[Finding]:
    """What the small model showed on the device.

    Args:
        first: Of ``look.probe`` with an empty model cache.
        second: Of ``look.probe`` in another process with the same cache; None where the first failed.
        discrete: Whether the device has a memory of its own.
    """
    if "error" in first:
        return [Finding("failed", "probe: kernels", first["error"], "send this sentence with the rows above it")]
    found = [_kernels(first), *([_buffers(first, discrete)] if first["memory"] else [])]
    if second is not None:
        found.append(_cache(first, second))
    return found


def _kernels(first: dict[str, Any]) -> Finding:
    if first["tokens"] != first["expected"]:
        text = f"the small model generates {first['tokens']}, the CPU plugin {first['expected']}"
        return Finding("failed", "probe: kernels", text, "do not use ov-moe on this device; report driver and versions")
    built = f", {first['builds']['ours']} of ov-moe's programs" if first["builds"] else ""
    text = f"a small model gives the CPU plugin's tokens; compiled in {first['compile_s']:.1f} s{built}"
    return Finding("ok", "probe: kernels", text)


def _buffers(first: dict[str, Any], discrete: bool) -> Finding:
    """The largest buffer is far larger than all else in the small model, so it shows where buffers stand."""
    name, memory, buffer = "probe: buffers", first["memory"], first["largest_buffer"]
    text = ", ".join(f"{kind} {size / _MIB:.1f} MiB" for kind, size in sorted(memory.items()))
    on_host = memory.get("usm_host", 0) > buffer / 2
    if not on_host:
        return Finding("ok", name, f"ov-moe's buffers are in device memory ({text})")
    if not discrete:
        return Finding("ok", name, f"in host memory, which is the device's own memory on an integrated GPU ({text})")
    return Finding(
        "failed",
        name,
        f"ov-moe's buffers are in host memory, on a card with a memory of its own: very slow ({text})",
        "update openvino: the plugin was corrected in August 2026 (pull request 37461); until then measure before use",
    )


def _cache(first: dict[str, Any], second: dict[str, Any]) -> Finding:
    name = "probe: model cache"
    if "error" in second or second["tokens"] != first["tokens"]:
        text = second.get("error") or f"the second process generates {second['tokens']}"
        return Finding("failed", name, f"a second process that finds the model cached: {text}", "leave CACHE_DIR unset")
    if not first["cached_files"]:
        return Finding("note", name, "CACHE_DIR kept nothing: every start compiles anew")
    return Finding("ok", name, f"a second process loads it and gives the same tokens, in {second['compile_s']:.1f} s")
