"""A command made of a record: the same options, defaults and help as of a function with these parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from ov_moe.commands.options_record import command_from


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Inner:
    many: Annotated[list[str] | None, typer.Option("--one", "-o", help="Repeatable.")] = None
    least: Annotated[int, typer.Option(min=2, help="Bounded.")] = 5


@dataclass(frozen=True, kw_only=True)
class Outer:
    place: Annotated[Path, typer.Argument(help="Required.")]
    colour: Annotated[Colour, typer.Option(help="One of two.")] = Colour.RED
    inner: Inner
    switch: Annotated[bool, typer.Option("--switch", help="Off.")] = False


def with_parameters(
    place: Annotated[Path, typer.Argument(help="Required.")],
    colour: Annotated[Colour, typer.Option(help="One of two.")] = Colour.RED,
    many: Annotated[list[str] | None, typer.Option("--one", "-o", help="Repeatable.")] = None,
    least: Annotated[int, typer.Option(min=2, help="Bounded.")] = 5,
    switch: Annotated[bool, typer.Option("--switch", help="Off.")] = False,
) -> None:
    """Do it."""
    typer.echo(repr(Outer(place=place, colour=colour, inner=Inner(many=many, least=least), switch=switch)))


def with_record(options: Outer) -> None:
    """Do it."""
    typer.echo(repr(options))


def output(command: Callable[..., None], arguments: list[str]) -> tuple[int, str]:
    app = typer.Typer()
    app.command("it")(command)
    done = CliRunner().invoke(app, arguments, terminal_width=120)
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["x"], 0),
        (["x", "--colour", "blue", "-o", "a", "--one", "b", "--least", "7", "--switch"], 0),
        (["--help"], 0),
        ([], 2),
        (["x", "--least", "1"], 2),
        (["x", "--colour", "green"], 2),
        (["x", "--inner", "1"], 2),
    ],
)
def test_a_record_is_what_parameters_are(arguments: list[str], status: int) -> None:
    found = output(command_from(Outer, with_record), arguments)
    assert found == output(with_parameters, arguments)
    assert found[0] == status
