"""Every option of ov-moe in one place: its type, its default and why, and its environment variable.

``Config()`` holds the defaults, ``Config.from_environment()`` what the ``OV_MOE_*`` variables say; explicit arguments
of functions and commands come before both. ``ov-moe doctor`` prints them; docs/configuration.md documents them.
Importing this module does not import openvino.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import platformdirs

from ov_moe.arguments import check_type, check_whole, check_word
from ov_moe.errors import InvalidInputError
from ov_moe.spec import Balance, Fetch, MicroKernelSwitch

Evaluate = Literal["auto", "opencl", "numpy"]

MAX_TOKENS_LIMIT = 65536

# Not options: what ov-moe tells the C library of the virtual GPU, and what a benchmark's record says of its sources.
_INTERNAL = frozenset({"OV_MOE_COMMIT", "OV_MOE_VGPU_RUNTIME"})


def _switch(text: str) -> bool:
    return text not in ("", "0")


def _on_unless_zero(text: str) -> bool:
    return text != "0"


def _about(variable: str, parse: Callable[[str], Any], why: str, unset: str = "") -> dict[str, Any]:
    """``unset`` says what holds where the value is None."""
    return {"variable": variable, "parse": parse, "why": why, "unset": unset}


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
        few_tokens: Up to as many tokens take the path for decode.
        fetch: How a pool group takes its next task: ``ticket`` or ``stride``.
        groups: Work-groups of the pool; None = twice the device's compute units.
        micro_kernel: What multiplies matrices on a GPU: ``auto``, ``fma`` or ``dpas``.
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
    # Each block's loop has buffers of its own: 27 MB a block for Qwen3-30B in f16, and each chunk reads the weights of
    # its experts once: on a GPU of 50 TFLOP/s and 456 GB/s both take about 0.7 ms a block.
    max_tokens: int = field(
        default=512,
        metadata=_about(
            "OV_MOE_MAX_TOKENS",
            int,
            "Longer prompts are computed in chunks of this size; more room costs memory in every layer.",
        ),
    )
    # 64 rows of Qwen3-30B's x in 48 layers are 12.6 MB a step, 1024 would be 201 MB.
    few_tokens: int = field(
        default=64,
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
            "without XMX is emulated, slow, for tests alone. No real XMX device has run dpas yet.",
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
            "Off, because it hides real GPUs from OpenVINO; any value but 0 turns it on when ov_moe is imported.",
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
            _on_unless_zero,
            "The plugin's own kernels are many and run briefly: building them costs more. 0 optimises them too.",
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
        check_word("balance", self.balance, get_args(Balance))
        check_word("fetch", self.fetch, get_args(Fetch))
        check_word("micro_kernel", self.micro_kernel, get_args(MicroKernelSwitch))
        check_word("evaluate", self.evaluate, get_args(Evaluate))
        check_whole("max_tokens", self.max_tokens, 1, MAX_TOKENS_LIMIT)
        check_whole("few_tokens", self.few_tokens, 1, MAX_TOKENS_LIMIT)
        if self.groups is not None:
            check_whole("groups", self.groups, 1, 2**20)
        for switch in ("virtual_gpu", "vgpu_fast_build"):
            check_type(switch, getattr(self, switch), bool, "True or False")
        check_type("cache_folder", self.cache_folder, Path, "a pathlib.Path")
        check_type("vgpu_cache", self.vgpu_cache, (str, type(None)), "a folder's name as text, or None")
        check_whole("vgpu_hold_seconds", self.vgpu_hold_seconds, 0, 3600)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **arguments: Any) -> Config:
        """The defaults, overridden by the ``OV_MOE_*`` variables that are set, and these by explicit arguments.

        Args:
            environment: The variables; by default those of this process.
            **arguments: Values by the option's name. None leaves an option to its variable; the variable of an option
                that is given is not read.

        Raises:
            InvalidInputError: An argument names no option, or an argument or a variable holds no value of its option;
                the sentence names which.
        """
        names = [option.name for option in fields(cls)]
        for name in arguments:
            if name not in names:
                raise InvalidInputError(f"There is no option {name!r}: the options are {', '.join(names)}.")
        found = os.environ if environment is None else environment
        values: dict[str, Any] = {name: value for name, value in arguments.items() if value is not None}
        cls(**values)
        for option in fields(cls):
            variable = option.metadata["variable"]
            if option.name in values or variable not in found:
                continue
            if found[variable] == "" and option.name not in ("virtual_gpu", "vgpu_cache"):
                continue
            try:
                values[option.name] = option.metadata["parse"](found[variable])
                cls(**{option.name: values[option.name]})
            except InvalidInputError as error:
                raise InvalidInputError(f"{variable}: {error}") from None
            except ValueError:
                raise InvalidInputError(f"{variable} is {found[variable]!r}, it must be a whole number.") from None
        return cls(**values)

    @classmethod
    def value_of(cls, name: str) -> Any:
        """The value of one option here, whatever the variables of the others hold; raises as ``from_environment``."""
        (variable,) = (option.metadata["variable"] for option in fields(cls) if option.name == name)
        found = {variable: os.environ[variable]} if variable in os.environ else {}
        return getattr(cls.from_environment(found), name)

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


def unknown_variables(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Variables that start with ``OV_MOE_`` and are no option: most likely misspelt."""
    known = {option.metadata["variable"] for option in fields(Config)} | _INTERNAL
    found = os.environ if environment is None else environment
    return tuple(sorted(name for name in found if name.startswith("OV_MOE_") and name not in known))


def _text(value: object, unset: str) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return unset if value is None else str(value)
