"""Commands whose options are the fields of a record: it is passed on whole."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

Record = TypeVar("Record")


def command_from(record: type[Record], run: Callable[[Record], None]) -> Callable[..., None]:
    """A callback for typer.

    Args:
        record: A dataclass. Its fields are what typer expects of parameters: ``Annotated[type, typer.Option(...)]`` or
            ``typer.Argument``, with the option's default. A field that is such a dataclass itself, without a default,
            stands for all of that one's fields.
        run: The command, with the help as its docstring.
    """
    parameters = list(_parameters(record))

    def command(**values: Any) -> None:
        run(_filled(record, values))

    command.__name__, command.__doc__ = run.__name__, run.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def _parameters(record: type[Any]) -> Iterator[inspect.Parameter]:
    kinds = get_type_hints(record, include_extras=True)
    for field in fields(record):
        kind = kinds[field.name]
        if is_dataclass(kind):
            yield from _parameters(kind)  # type: ignore[arg-type]
            continue
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _filled(record: type[Any], values: Mapping[str, Any]) -> Any:
    kinds = get_type_hints(record)
    return record(
        **{
            name: _filled(kind, values) if is_dataclass(kind) else values[name]  # type: ignore[arg-type]
            for name, kind in kinds.items()
        }
    )
