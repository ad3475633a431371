"""What ``ov-moe bench`` is asked to do. Does not import openvino."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from ov_moe.bench.job import Job, Variant
from ov_moe.commands.model_files import find_model
from ov_moe.commands.prompts import parse_prompts
from ov_moe.commands.properties import parse_properties
from ov_moe.commands.shared_options import Device, PromptOptions
from ov_moe.errors import InvalidInputError
from ov_moe.options import Config

# More than take the path for decode.
_DEFAULT_TOKENS = "128"


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """The options of the command line."""

    model: Annotated[Path, typer.Argument(help="An IR (.xml) or its folder, not rewritten.")]
    device: Device = "auto"
    variants: Annotated[
        str,
        typer.Option(help="Of unfused, off, on, auto (balance), separated by commas; the first is the reference."),
    ] = "unfused,off,on"
    prompts: PromptOptions
    new_tokens: Annotated[int, typer.Option("--new-tokens", "-ic", help="Tokens to generate.")] = 32
    iterations: Annotated[int, typer.Option("--iterations", "-n", help="Generations that count, in each turn.")] = 5
    warm_up: Annotated[int, typer.Option(help="Generations before them, in each turn.")] = 2
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each variant: A B, then B A, and so on.")] = 2
    batch: Annotated[int, typer.Option("--batch", "-bs", help="Sequences at a time.")] = 1
    seed: Annotated[int, typer.Option(min=0, help="Of the random tokens.")] = 0
    setting: Annotated[
        list[str] | None,
        typer.Option("--property", help="KEY=VALUE for compile_model, as in INFERENCE_PRECISION_HINT=f32; repeatable."),
    ] = None
    max_tokens: Annotated[int | None, typer.Option(help="See OV_MOE_MAX_TOKENS.")] = None
    proof: Annotated[bool, typer.Option(help="Show by the plugin's profile, in a run of its own, what ran.")] = True
    profile: Annotated[bool, typer.Option("--profile", help="Show the time of each operation (PERF_COUNT).")] = False
    max_error: Annotated[float | None, typer.Option(help="Fail where logits deviate by more of the largest.")] = None
    csv: Annotated[Path | None, typer.Option("--csv", "-r", help="Write one row an iteration.")] = None
    json: Annotated[Path | None, typer.Option("--json", "-rj", help="Write everything.")] = None
    plot: Annotated[Path | None, typer.Option(help="Draw every step (.png, .svg, .pdf); needs matplotlib.")] = None

    @property
    def names(self) -> list[Variant]:
        """The variants; raises InvalidInputError for an unknown or repeated one."""
        words = [word.strip() for word in self.variants.split(",") if word.strip()]
        known = get_args(Variant)
        if not words or len(set(words)) < len(words) or not set(words) <= set(known):
            raise InvalidInputError(
                f"variants is {self.variants!r}: name one or more of {', '.join(known)}, each once, separated by "
                "commas."
            )
        return [cast(Variant, word) for word in words]

    def job(self, config: Config) -> Job:
        """What all turns share, with the first variant; raises InvalidInputError for what cannot be served."""
        if self.max_error is not None and not self.max_error >= 0:
            raise InvalidInputError(f"max_error is {self.max_error:g}, it must be at least 0.")
        return Job(
            variant=self.names[0],
            model=str(find_model(self.model)),
            device=self.device,
            prompts=self.prompts.read() or parse_prompts(_DEFAULT_TOKENS, [], None),
            new_tokens=self.new_tokens,
            batch=self.batch,
            warm_up=self.warm_up,
            iterations=self.iterations,
            seed=self.seed,
            properties=parse_properties(self.setting or []),
            max_tokens=config.max_tokens,
            few_tokens=config.few_tokens,
            fetch=config.fetch,
            groups=config.groups,
        )
