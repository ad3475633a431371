"""Every option of ov-moe in one place: its type, its default and why, and its environment variable.

``Config()`` holds the defaults, ``Config.from_environment()`` what the ``OV_MOE_*`` variables say; explicit arguments
of functions and commands come before both. ``ov-moe doctor`` prints them; docs/configuration.md documents them.
Importing this module does not import openvino.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import platformdirs

from ov_moe.arguments import check_type, check_whole, check_word
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.micro import switch_words
from ov_moe.spec import Balance, Fetch, MicroKernelSwitch

Evaluate = Literal["auto", "opencl", "numpy"]

MAX_TOKENS_LIMIT = 65536
# 64 rows of Qwen3-30B's x in 48 layers are 12.6 MB a step, 1024 would be 201 MB.
FEW_TOKENS = 64
# Becomes a number in __post_init__: what is not given follows max_tokens, what is given must fit it.
_NOT_GIVEN: Any = None

# Not an option: what a benchmark's record says of its sources.
_INTERNAL = frozenset({"OV_MOE_COMMIT"})

_SWITCH = {word: on for on, words in ((True, "1 true yes on"), (False, "0 false no off")) for word in words.split()}


def _switch(text: str) -> bool:
    """In any case; ValueError for another word."""
    try:
        return _SWITCH[text.strip().lower()]
    except KeyError:
        raise ValueError(text) from None


def _check_groups(name: str, value: object) -> None:
    if value is not None:
        check_whole(name, value, 1, 2**20)


def _about(variable: str, parse: Callable[[str], Any], why: str, unset: str = "") -> dict[str, Any]:
    """``unset`` says what holds where the value is None."""
    expected = "1, true, yes or on, or 0, false, no or off" if parse is _switch else "a whole number"
    return {"variable": variable, "parse": parse, "why": why, "unset": unset, "expected": expected}


@dataclass(frozen=True)
class Option:
    """One option, for documentation and display.

    Attributes:
        name: Attribute of ``Config``.
        variable: Environment variable that overrides the default.
        default: The default as text.
        value: The value in force as text.
        changed: Whether the variable is set.
        why: What the option does and why the default is what it is.
    """

    name: str
    variable: str
    default: str
    value: str
    changed: bool
    why: str


@dataclass(frozen=True)
class Config:
    """The options of ov-moe; every instance is valid.

    Attributes:
        balance: How prefill shares its work out: ``on``, ``off`` or ``auto``.
        max_tokens: Tokens of prefill that are computed at a time.
        few_tokens: Up to as many tokens take the path for decode, at most ``max_tokens``; 64 where it is not given, or
            ``max_tokens`` where that is less.
        fetch: How a pool group takes its next task: ``ticket`` or ``stride``.
        groups: Work-groups of the pool; None = twice the device's compute units.
        micro_kernel: What multiplies matrices on a GPU: ``auto``, ``fma``, ``dpas`` or ``dpas-emulated``.
        evaluate: What computes the operations on the CPU device: ``auto``, ``opencl`` or ``numpy``.
        virtual_gpu: Whether importing ov_moe starts the virtual GPU.
        cache_folder: Where layer files and the virtual GPU's library are kept.
        vgpu_cache: Folder of the virtual GPU's built programs; None = in ``cache_folder``, empty = none is kept.
        vgpu_fast_build: Whether the virtual GPU builds the plugin's own kernels without optimisation.
        vgpu_hold_seconds: Seconds by which the virtual GPU delays kernels that the plugin builds in the background.
    """

    balance: Balance = field(
        default="auto",
        metadata=_about(
            "OV_MOE_BALANCE",
            str,
            "The pool of work-groups pays where routing is uneven over many experts: auto takes it from 64 experts on. "
            "Results are bit-identical.",
        ),
    )
    # Each block's loop has buffers of its own: 28 MB a block for Qwen3-30B in f16, and each chunk reads the weights of
    # its experts once: on a GPU of 50 TFLOP/s and 456 GB/s both take about 0.7 ms a block.
    max_tokens: int = field(
        default=512,
        metadata=_about(
            "OV_MOE_MAX_TOKENS",
            int,
            "Longer prompts are computed in chunks of this size; more room costs memory in every layer.",
        ),
    )
    few_tokens: int = field(
        default=_NOT_GIVEN,
        metadata=_about(
            "OV_MOE_FEW_TOKENS",
            int,
            "Up to as many tokens run without a loop; every decode step pads to this number, so more costs it time.",
        ),
    )
    fetch: Fetch = field(
        default="ticket",
        metadata=_about(
            "OV_MOE_FETCH",
            str,
            "A ticket gives a free group the next task whatever the others do; stride is for ablation.",
        ),
    )
    groups: int | None = field(
        default=None,
        metadata=_about(
            "OV_MOE_GROUPS",
            int,
            "Two groups for each compute unit let one wait on memory while another computes.",
            unset="twice the device's compute units",
        ),
    )
    micro_kernel: MicroKernelSwitch = field(
        default="auto",
        metadata=_about(
            "OV_MOE_MICRO_KERNEL",
            str,
            "auto takes dpas on GPUs with XMX where activations are f16, else fma, and for few tokens gemv; dpas "
            "without XMX is refused, dpas-emulated is slow and for tests alone. No real XMX device has run dpas yet.",
        ),
    )
    evaluate: Evaluate = field(
        default="auto",
        metadata=_about(
            "OV_MOE_EVALUATE",
            str,
            "On the CPU device the kernels run through OpenCL where it shows a device, else NumPy computes.",
        ),
    )
    virtual_gpu: bool = field(
        default=False,
        metadata=_about(
            "OV_MOE_VIRTUAL_GPU",
            _switch,
            "Off, because it takes the name GPU from a real one; on, it starts when ov_moe is imported.",
        ),
    )
    cache_folder: Path = field(
        default_factory=lambda: platformdirs.user_cache_path("ov-moe"),
        metadata=_about("OV_MOE_CACHE", Path, "The user's cache folder: everything in it can be made again."),
    )
    vgpu_cache: str | None = field(
        default=None,
        metadata=_about(
            "OV_MOE_VGPU_CACHE",
            str,
            "Building the plugin's programs on a CPU takes minutes, loading them takes seconds.",
            unset="a folder in cache_folder",
        ),
    )
    vgpu_fast_build: bool = field(
        default=True,
        metadata=_about(
            "OV_MOE_VGPU_FAST_BUILD",
            _switch,
            "The plugin's own kernels are many and run briefly: building them costs more. Off optimises them too.",
        ),
    )
    vgpu_hold_seconds: int = field(
        default=0,
        metadata=_about(
            "OV_MOE_VGPU_HOLD_SECONDS",
            int,
            "The plugin fails on int4 models with 8 experts once kernels that it builds in the background are ready; "
            "some seconds keep them back.",
        ),
    )

    def __post_init__(self) -> None:
        if self.few_tokens is _NOT_GIVEN:
            check_option("max_tokens", self.max_tokens)
            object.__setattr__(self, "few_tokens", min(FEW_TOKENS, self.max_tokens))
        for option in fields(self):
            check_option(option.name, getattr(self, option.name))
        if self.few_tokens > self.max_tokens:
            raise InvalidInputError(
                f"few_tokens is {self.few_tokens}, more than the {self.max_tokens} of max_tokens: raise max_tokens "
                "(OV_MOE_MAX_TOKENS) too, or lower few_tokens (OV_MOE_FEW_TOKENS)."
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **arguments: Any) -> Config:
        """The defaults, overridden by the ``OV_MOE_*`` variables that are set, and these by explicit arguments.

        Args:
            environment: The variables; by default those of this process.
            **arguments: Values by the option's name. None leaves an option to its variable; the variable of an option
                that is given is not read.

        Raises:
            InvalidInputError: An argument names no option, an argument or a variable holds no value of its option, or
                both are whole but ``few_tokens`` is above ``max_tokens``; the sentence names which.
        """
        names = [option.name for option in fields(cls)]
        for name in arguments:
            if name not in names:
                raise InvalidInputError(f"There is no option {name!r}: the options are {', '.join(names)}.")
        found = os.environ if environment is None else environment
        values: dict[str, Any] = {name: value for name, value in arguments.items() if value is not None}
        for name, value in values.items():
            check_option(name, value)
        for option in fields(cls):
            variable = option.metadata["variable"]
            if option.name in values or variable not in found:
                continue
            if found[variable] == "" and option.name != "vgpu_cache":
                continue
            try:
                values[option.name] = option.metadata["parse"](found[variable])
                check_option(option.name, values[option.name])
            except InvalidInputError as error:
                raise InvalidInputError(f"{variable}: {error}") from None
            except ValueError:
                expected = option.metadata["expected"]
                raise InvalidInputError(f"{variable} is {found[variable]!r}, it must be {expected}.") from None
        return cls(**values)

    @classmethod
    def value_of(cls, name: str) -> Any:
        """The value of one option here, whatever the variables of the others hold; raises as ``from_environment``."""
        own = {"few_tokens", "max_tokens"} if name in ("few_tokens", "max_tokens") else {name}
        variables = [option.metadata["variable"] for option in fields(cls) if option.name in own]
        return getattr(cls.from_environment({key: os.environ[key] for key in variables if key in os.environ}), name)

    def options(self, environment: Mapping[str, str] | None = None) -> tuple[Option, ...]:
        """Every option with its default and the value that is in force here."""
        found = os.environ if environment is None else environment
        default = Config()
        return tuple(
            Option(
                name=option.name,
                variable=option.metadata["variable"],
                default=_text(getattr(default, option.name), option.metadata["unset"]),
                value=_text(getattr(self, option.name), option.metadata["unset"]),
                changed=option.metadata["variable"] in found,
                why=option.metadata["why"],
            )
            for option in fields(self)
        )


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "balance": partial(check_word, words=get_args(Balance)),
    "max_tokens": partial(check_whole, low=1, high=MAX_TOKENS_LIMIT),
    "few_tokens": partial(check_whole, low=1, high=MAX_TOKENS_LIMIT),
    "fetch": partial(check_word, words=get_args(Fetch)),
    "groups": _check_groups,
    "micro_kernel": partial(check_word, words=tuple(switch_words())),
    "evaluate": partial(check_word, words=get_args(Evaluate)),
    "virtual_gpu": partial(check_type, kind=bool, wanted="True or False"),
    "cache_folder": partial(check_type, kind=Path, wanted="a pathlib.Path"),
    "vgpu_cache": partial(check_type, kind=(str, type(None)), wanted="a folder's name as text, or None"),
    "vgpu_fast_build": partial(check_type, kind=bool, wanted="True or False"),
    "vgpu_hold_seconds": partial(check_whole, low=0, high=3600),
}


def check_option(name: str, value: object) -> None:
    """Raise InvalidInputError unless a value is one of an option of ``Config``, whatever the others are."""
    _CHECKS[name](name, value)


def starts_virtual_gpu() -> bool:
    """Whether OV_MOE_VIRTUAL_GPU is on; a value that is no switch is left to what reads the options, which says so."""
    try:
        return bool(Config.value_of("virtual_gpu"))
    except InvalidInputError:
        return False


def unknown_variables(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Variables that start with ``OV_MOE_`` and are no option: most likely misspelt."""
    known = {option.metadata["variable"] for option in fields(Config)} | _INTERNAL
    found = os.environ if environment is None else environment
    return tuple(sorted(name for name in found if name.startswith("OV_MOE_") and name not in known))


def _text(value: object, unset: str) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return unset if value is None else str(value)
