"""Options that belong together, taken by a command as one value.

A command declares a parameter for a group and is decorated with :func:`with_groups`, which puts the group's options in
the place of that parameter:

    @with_groups(reading=READING)
    def encode(corpus: CorpusArgument, *, reading: CorpusOptions) -> None: ...

So an option is spelled and explained once, whoever takes it, under the name that it has in Python.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

__all__ = ["REQUIRED", "Group", "option", "spelled", "with_groups"]

REQUIRED = inspect.Parameter.empty
"""The default of an option that must be given."""


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Options that make one value.

    Attributes:
        make: called with their values by name; imports what is heavy when it is called.
        options: see :func:`option`.
    """

    make: Callable[..., Any]
    options: tuple[inspect.Parameter, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters of a command that has the group."""
        return tuple(each.name for each in self.options)


def option(
    name: str,
    kind: Any,
    default: Any,
    metavar: str | None,
    text: str,
    *,
    flag: str | None = None,
    panel: str | None = None,
    **more: Any,
) -> inspect.Parameter:
    """An option as typer reads it from a signature.

    Args:
        name: of the setting.
        kind: its type.
        default: its value where it is not given; shown unless ``text`` says what it is.
        metavar: what stands for the value.
        text: the help.
        flag: where it is not the name; several as ``"-o --out"``.
        panel: the heading that it stands under.
        more: for ``typer.Option``.
    """
    flag = flag or f"--{name.replace('_', '-')}"
    shown = "[default:" not in text
    made = typer.Option(*flag.split(), metavar=metavar, help=text, rich_help_panel=panel, show_default=shown, **more)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, made])


def spelled(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    """An option that is spelled already, as the annotation of a parameter."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def with_groups(*options: inspect.Parameter, **groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options, and groups of them, in place of its parameters of these names."""
    own_options = {each.name: each for each in options}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        kept = {name: kind for name, kind in command.__annotations__.items() if name not in {*own_options, *groups}}
        command.__annotations__ = kept  # the others may be names for type checkers only
        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            keyword = own_options.get(own.name) or own.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            parameters += groups[own.name].options if own.name in groups else [keyword]

        def expanded(**values: Any) -> None:
            for name, group in groups.items():
                values[name] = group.make(**{each: values.pop(each) for each in group.names})
            command(**values)

        expanded.__name__, expanded.__doc__ = command.__name__, command.__doc__
        expanded.__annotations__ = {item.name: item.annotation for item in parameters}
        vars(expanded)["__signature__"] = inspect.Signature(parameters)
        return expanded

    return decorate
