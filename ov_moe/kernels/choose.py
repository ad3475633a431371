"""From a workload, a device and the user's switches to kernel configurations: pure functions, printable results."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from ov_moe.arguments import check_word
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.config import DPAS_ROWS, DPAS_SUBGROUP_ROWS, KernelConfig, ModelConfig
from ov_moe.spec import (
    Balance,
    DeviceInfo,
    Fetch,
    MicroKernel,
    MicroKernelSwitch,
    Schedule,
    Switches,
    Workload,
)

# Upstream's switch (OpenVINO pull request 33922) balances from 64 experts on: Qwen3 (128) and not GPT-OSS (32).
AUTO_BALANCE_EXPERTS = 64
# Persistent groups for each execution unit of an Intel GPU, which holds 7 or 8 threads of 8 to 32 work-items: more than
# run at once, so that none is idle while groups end at different times.
OVER_PROVISION = 2
# The same elsewhere, where a unit is a multiprocessor of up to 2048 work-items: on an H200 a pool of 2, 4, 8 and 16
# groups a unit ran at 0.55, 0.86, 1.01 and 1.02 times the grid's speed (fma, Qwen3-30B, 1024 tokens, power law 1.2).
OVER_PROVISION_ELSEWHERE = 16
# Few tokens are about one row an expert (Qwen3 at 16 tokens, GPT-OSS at 8): the lowest tile of 128 work-items.
DECODE_TILE_M = 8
# Average rows of an expert up to which gemv serves few tokens: with the room of 64 Qwen3 has 4, GPT-OSS 8, Mixtral 16.
# On an H100 fma takes 5.7 times as long at 1 token of Qwen3, 2.9 times at 8 rows an expert (Qwen3, 128 tokens), and 1.6
# times at 16 (GPT-OSS, 128 tokens, its better tile). Not measured on an Intel GPU.
GEMV_MAX_ROWS = 16


def choose_schedule(balance: Balance, experts: int) -> Schedule:
    """off -> grid, on -> pool, auto -> pool from AUTO_BALANCE_EXPERTS experts on.

    Raises InvalidInputError for any other word.
    """
    check_word("balance", balance, get_args(Balance))
    if balance == "auto":
        return "pool" if experts >= AUTO_BALANCE_EXPERTS else "grid"
    return "pool" if balance == "on" else "grid"


def pool_groups(device: DeviceInfo) -> int:
    """Work-groups for a pool that fills the device."""
    return device.compute_units * (OVER_PROVISION if device.vendor == "intel" else OVER_PROVISION_ELSEWHERE)


def choose_config(
    balance: Balance,
    experts: int,
    compute_units: int,
    fetch: Fetch = "ticket",
    groups: int | None = None,
) -> KernelConfig:
    """The configuration for many tokens that runs on any device.

    Args:
        balance: The user's switch.
        experts: Largest number of experts of any block in the model.
        compute_units: Of the device.
        fetch: How a pool group takes its next task; ``stride`` is for ablation.
        groups: Work-groups of the pool, instead of compute_units * OVER_PROVISION (an Intel GPU's; see pool_groups).

    Raises:
        InvalidInputError: A switch holds another word, or there are no groups.
    """
    check_word("fetch", fetch, get_args(Fetch))
    count = compute_units * OVER_PROVISION if groups is None else groups
    return KernelConfig(schedule=choose_schedule(balance, experts), fetch=fetch, groups=count)


def decode_config(groups: int) -> KernelConfig:
    """The configuration for few tokens that runs on any device, with ``fma``: what the others start from.

    Always a pool with tickets, which launches no empty groups: most experts have no row.
    """
    return KernelConfig("pool", "ticket", groups, tile_m=DECODE_TILE_M)


def gemv_config(config: KernelConfig, subgroup: int = 8) -> KernelConfig:
    """The same schedule with the micro-kernel for few rows.

    In decode (Qwen3 at 16 tokens) 32 gate and 32 up columns x 4 slices of K, or 64 columns of Down x 2, are 128
    work-items: 192 tasks of GateUp at one token.

    Args:
        config: Of ``decode_config``.
        subgroup: Work-items of a sub-group: 8, or 16 where the device has none of 8. Of 16 on a GPU whose registers
            have 32 bytes, Xe-LP and Arc among them, 8 rows of gate and up spill.
    """
    return replace(
        config, micro_kernel="gemv", subgroup=subgroup, tile_m=8, tile_n=64, tile_k=256, local_size=128, emulation=False
    )


def dpas_config(config: KernelConfig, subgroup: int, emulation: bool = False) -> KernelConfig:
    """The same schedule with the micro-kernel for XMX, in tiles for sub-groups of 8 (Arc) or 16 (Xe2).

    Args:
        config: Of ``choose_config``, or of ``decode_config`` with its low tile.
        subgroup: Work-items of a sub-group.
        emulation: Whether sub-group broadcasts compute the instruction, for devices without it.
    """
    if config.tile_m < DPAS_SUBGROUP_ROWS:
        # Decode (Qwen3 at 16 tokens, GPT-OSS at 8): the one fragment of rows that there is, in small groups.
        rows, tile_m, subgroups = DPAS_ROWS, DPAS_ROWS, 4
    else:
        # Prefill (Qwen3 at 512 tokens: 32 rows an expert, GPT-OSS: 64): an integer becomes f16 once for 32 rows, and
        # 64 rows x 32 or 64 pairs of columns are 8 sub-groups with two fragments of columns each.
        rows, tile_m, subgroups = DPAS_SUBGROUP_ROWS, 2 * DPAS_SUBGROUP_ROWS, 8
    return replace(
        config,
        micro_kernel="dpas",
        subgroup=subgroup,
        subgroup_rows=rows,
        tile_m=tile_m,
        tile_n=8 * subgroup,
        local_size=subgroups * subgroup,
        emulation=emulation,
    )


def choose_micro_kernel(workload: Workload, device: DeviceInfo, switch: MicroKernelSwitch) -> tuple[MicroKernel, str]:
    """What multiplies the tiles, and why.

    Args:
        workload: Of prefill or decode.
        device: Where the kernel runs.
        switch: The user's; ``auto`` is the rule. ``dpas-emulated`` is ``dpas`` with its instruction computed by
            sub-group broadcasts, on any device.

    Raises:
        InvalidInputError: The switch holds another word, or asks for ``dpas`` where there is no XMX.
    """
    check_word("micro_kernel", switch, get_args(MicroKernelSwitch))
    if switch == "dpas" and not device.xmx_subgroup:
        # Intel's compiler builds it all the same, and says that it succeeded: the kernel then holds no dpas.
        raise InvalidInputError(
            "micro_kernel is 'dpas', and the device has no XMX of a kind that ov-moe knows: leave it to 'auto' (for "
            "tests alone, 'dpas-emulated' computes the instruction by sub-group broadcasts, slowly)."
        )
    if switch == "dpas-emulated":
        return "dpas", "asked for as an emulation: sub-group broadcasts stand in for dpas, slow, for tests alone"
    if switch != "auto":
        return switch, "asked for"
    if not device.xmx_subgroup:
        return "fma", "no XMX of a kind that ov-moe knows"
    if workload.activations == "f32":
        return "fma", "activations are f32, and XMX takes f16"
    # Every weight format of Qwen3 and GPT-OSS becomes f16 in registers; in decode XMX frees the vector units for that.
    return "dpas", f"XMX with sub-groups of {device.xmx_subgroup} and f16 activations"


def choose_model_config(prefill: Workload, decode: Workload, device: DeviceInfo, switches: Switches) -> ModelConfig:
    """The configurations of a model's kernels.

    Args:
        prefill: The workload of many tokens.
        decode: Of few tokens.
        device: Where the kernels run.
        switches: The user's. Balance and fetch are for prefill.

    Raises:
        InvalidInputError: A switch holds another word, there are no groups, or ``dpas`` is asked for without XMX.
    """
    many = choose_config(switches.balance, prefill.experts, device.compute_units, switches.fetch, switches.groups)
    few = decode_config(many.groups)
    kind, why = choose_micro_kernel(prefill, device, switches.micro_kernel)
    emulation = switches.micro_kernel == "dpas-emulated"
    if kind == "dpas":
        many = dpas_config(many, device.xmx_subgroup or 8, emulation)
    if choose_micro_kernel(decode, device, switches.micro_kernel)[0] == "dpas":
        few = dpas_config(few, device.xmx_subgroup or 8, emulation)
    elif switches.micro_kernel == "auto" and decode.rows_per_expert <= GEMV_MAX_ROWS:
        few = gemv_config(few, device.subgroup)
    return ModelConfig(many, few, why)
