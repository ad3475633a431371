"""From a workload, a device and the user's switches to kernel configurations: pure functions, printable results."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from ov_moe.arguments import check_word
from ov_moe.kernels.config import KernelConfig, ModelConfig
from ov_moe.kernels.micro import MICRO_KERNELS, Fma, MicroKernel, MicroKernels, switch_words
from ov_moe.kernels.micro.fma import FEW_ROWS
from ov_moe.spec import Balance, DeviceInfo, Fetch, MicroKernelSwitch, Schedule, Switches, Workload

# Upstream's switch (OpenVINO pull request 33922) balances from 64 experts on: Qwen3 (128) and not GPT-OSS (32).
AUTO_BALANCE_EXPERTS = 64
# Persistent groups for each execution unit of an Intel GPU, which holds 7 or 8 threads of 8 to 32 work-items: more than
# run at once, so that none is idle while groups end at different times.
OVER_PROVISION = 2
# The same elsewhere, where a unit is a multiprocessor of up to 2048 work-items: on an H200 a pool of 2, 4, 8 and 16
# groups a unit ran at 0.55, 0.86, 1.01 and 1.02 times the grid's speed (fma, Qwen3-30B, 1024 tokens, power law 1.2).
OVER_PROVISION_ELSEWHERE = 16


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
    return KernelConfig("pool", "ticket", groups, Fma(tile_m=FEW_ROWS))


def choose_micro_kernel(
    workload: Workload, device: DeviceInfo, switch: MicroKernelSwitch, kinds: MicroKernels = MICRO_KERNELS
) -> tuple[type[MicroKernel], str]:
    """What multiplies the tiles, and why.

    Args:
        workload: Of prefill or decode.
        device: Where the kernel runs.
        switch: The user's; ``auto`` is the rule: the last of the table that nothing speaks against. The reason is what
            speaks against the very last one, or that it is taken.
        kinds: The table.

    Raises:
        InvalidInputError: The switch holds another word.
    """
    words = switch_words(kinds)
    check_word("micro_kernel", switch, tuple(words))
    asked = words[switch]
    if asked is not None:
        return asked, asked.because(device, switch)
    against = ""
    for kind in reversed(list(kinds.values())):
        reason = kind.unsuited(workload, device)
        if reason is None:
            return kind, against or kind.because(device, switch)
        against = against or reason
    raise AssertionError("fma serves everything")


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
    few, rare = decode_config(many.groups), replace(decode, few=True)
    kind, why = choose_micro_kernel(prefill, device, switches.micro_kernel)
    rare_kind, _ = choose_micro_kernel(rare, device, switches.micro_kernel)
    return ModelConfig(
        kind.placed(many, prefill, device, switches.micro_kernel),
        rare_kind.placed(few, rare, device, switches.micro_kernel),
        why,
    )
