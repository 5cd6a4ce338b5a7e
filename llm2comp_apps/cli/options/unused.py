"""Options that were given but would do nothing: refused, since whoever gives one expects something of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from llm2comp_apps.errors import UsageError

if TYPE_CHECKING:
    import typer

__all__ = ["refuse_given", "refuse_needless"]


def refuse_given(ctx: typer.Context, names: Iterable[str], reason: str) -> None:
    """Refuse options that have no effect in this call.

    Args:
        ctx: of the command.
        names: of its parameters, as the function has them.
        reason: why they have none.

    Raises:
        UsageError: one of them was given, even with its default value.
    """
    for name in names:
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            given = f"{name}=False" if ctx.params[name] is False else name  # --no-cache, not --cache
            raise UsageError(f"`{given}`: {reason}; leave it out")


def refuse_needless(ctx: typer.Context, *rules: tuple[object, Iterable[str], str]) -> None:
    """Apply several rules: if the first of a rule is not ``None``, its options are refused for its reason."""
    for given, names, reason in rules:
        if given is not None:
            refuse_given(ctx, names, reason)
