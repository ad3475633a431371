"""Options that several commands have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ov_moe.commands.prompts import Prompt, parse_prompts

Device = Annotated[
    str, typer.Option("--device", "-d", help="auto (a real GPU, else the virtual GPU), GPU, GPU.n or CPU.")
]


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """What is put into a model."""

    prompt_tokens: Annotated[str | None, typer.Option(help="Prompts of so many random tokens, as in 128,1024.")] = None
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="A text; may be given again.")] = None
    prompt_file: Annotated[
        Path | None, typer.Option("--prompt-file", "-pf", help="One text a line; .jsonl: {'prompt': '...'}.")
    ] = None

    def read(self) -> tuple[Prompt, ...]:
        """The prompts, none where none is given; raises InvalidInputError as ``parse_prompts``."""
        return parse_prompts(self.prompt_tokens, self.prompt or [], self.prompt_file)
