"""What the parent process tells a worker, and what it hears back; both travel as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ov_moe.commands.prompts import Prompt
from ov_moe.errors import InvalidInputError
from ov_moe.spec import Balance, Fetch

Variant = Literal["unfused", "off", "on", "auto"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

# The file of a turn's folder that holds the job: prompts may be longer than a command line.
JOB = "job.json"
# The phases of a profile.
FIRST, OTHER = "first token", "other token"


@dataclass(frozen=True)
class Job:
    """One turn of one variant in a process of its own.

    Attributes:
        model: The IR's .xml.
        device: OpenVINO device string.
        variant: ``unfused``, or the balance switch of the rewritten model.
        prompts: What is generated from, in every iteration.
        new_tokens: Tokens to generate for each sequence.
        batch: Sequences at a time.
        warm_up: Iterations that do not count.
        iterations: Iterations that count.
        seed: Of the random prompts.
        properties: For ``compile_model``.
        max_tokens: See ``ov_moe.optimize``.
        few_tokens: See ``ov_moe.optimize``.
        fetch: See ``ov_moe.compile_model``.
        groups: See ``ov_moe.compile_model``.
        profile: Profile the operations instead of timing.
    """

    model: str
    device: str
    variant: Variant
    prompts: tuple[Prompt, ...]
    new_tokens: int
    batch: int
    warm_up: int
    iterations: int
    seed: int
    properties: dict[str, str]
    max_tokens: int
    few_tokens: int
    fetch: Fetch
    groups: int | None
    profile: bool = False

    def __post_init__(self) -> None:
        for name, least in (("new_tokens", 1), ("batch", 1), ("warm_up", 0), ("iterations", 1)):
            if getattr(self, name) < least:
                raise InvalidInputError(f"{name} is {getattr(self, name)}, it must be at least {least}.")

    @property
    def balance(self) -> Balance | None:
        """The switch, None where the model is not rewritten."""
        return None if self.variant == "unfused" else self.variant

    @property
    def folder(self) -> Path:
        """Where the model lies."""
        return Path(self.model).parent

    @staticmethod
    def from_json(fields: dict[str, Any]) -> Job:
        """The job that ``dataclasses.asdict`` took apart."""
        return Job(**{**fields, "prompts": tuple(Prompt(**prompt) for prompt in fields["prompts"])})


@dataclass(frozen=True)
class Iteration:
    """One generation.

    Attributes:
        iteration: 0 for warm-up, else from 1.
        prompt: Index of the prompt.
        input_size: Prompt tokens of each sequence.
        output_size: New tokens of each sequence.
        tokenization_ms: 0 where ids were given.
        first_ms: To the first new token, choosing it included.
        first_infer_ms: The model's part of it.
        other_ms: Each further token.
        other_infer_ms: The model's part of them.
        md5: Of the new token ids, written as decimal numbers between spaces, one sequence a line.
        rss: Peak resident host memory of the process so far, bytes; None where the system does not tell.
        device_bytes: The plugin's allocations after the iteration, by kind; empty off a GPU.
    """

    iteration: int
    prompt: int
    input_size: int
    output_size: int
    tokenization_ms: float
    first_ms: float
    first_infer_ms: float
    other_ms: list[float]
    other_infer_ms: list[float]
    md5: str
    rss: int | None
    device_bytes: dict[str, int]


@dataclass(frozen=True)
class Turn:
    """What one worker found.

    Attributes:
        variant: As in the job.
        load_s: Reading and rewriting.
        compile_s: Compiling.
        blocks: Blocks rewritten.
        skipped: Reasons of the blocks left alone.
        builds: Program builds at compile time and later, ours among them; empty where nothing counts them.
        iterations: All generations, warm-up included.
        rss_compiled: Peak resident host memory when the model was compiled, bytes.
        logits: File with the last prompt position's logits of each prompt.
        profile: Rows of the profile, in a profiling turn.
        wall_ms: Mean duration of a step of each phase of the profile, milliseconds.
        proof: Rewritten blocks whose operations ran, by the profile, at the first and at another token.
        facts: The device, its driver and all versions.
    """

    variant: str
    load_s: float
    compile_s: float
    blocks: int
    skipped: list[str]
    builds: dict[str, int]
    iterations: list[Iteration]
    rss_compiled: int | None
    logits: str
    profile: list[dict[str, Any]] = field(default_factory=list)
    proof: dict[str, int] = field(default_factory=dict)
    wall_ms: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def from_json(fields: dict[str, Any]) -> Turn:
        """The turn that ``dataclasses.asdict`` took apart."""
        return Turn(**{**fields, "iterations": [Iteration(**each) for each in fields["iterations"]]})
