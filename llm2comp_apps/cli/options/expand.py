"""Options that belong together, taken by a command as one value.

A command declares a parameter for a group and is decorated with :func:`with_groups`, which puts the group's options in
the place of that parameter:

    @with_groups(reading=READING)
    def encode(corpus: CorpusArgument, *, reading: CorpusOptions) -> None: ...

So an option is spelled and explained once, whoever takes it.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

__all__ = ["Group", "group_of", "with_groups"]


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Options that make one value.

    Attributes:
        make: called with their values by name.
        options: as typer reads them from a signature: names, annotations with a ``typer.Option``, defaults.
    """

    make: Callable[..., Any]
    options: tuple[inspect.Parameter, ...]


def group_of(kind: type) -> Group:
    """The group of a dataclass, each field of which is annotated with its ``typer.Option``."""
    hints = get_type_hints(kind, include_extras=True)
    options = (
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(kind)
    )
    return Group(kind, tuple(options))


def with_groups(**groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of groups in place of its parameters of these names."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            if own.name in groups:
                parameters += groups[own.name].options
            else:
                parameters.append(own.replace(kind=inspect.Parameter.KEYWORD_ONLY))

        def expanded(**values: Any) -> None:
            for name, group in groups.items():
                values[name] = group.make(**{option.name: values.pop(option.name) for option in group.options})
            command(**values)

        expanded.__doc__ = command.__doc__
        expanded.__annotations__ = {item.name: item.annotation for item in parameters}
        vars(expanded)["__signature__"] = inspect.Signature(parameters)
        return expanded

    return decorate
