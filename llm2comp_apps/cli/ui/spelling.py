"""Settings in messages, spelled as the options of a command.

Below the command line a message speaks of settings by their names in Python, in backquotes where it advises one
(:mod:`llm2comp_apps.errors`): `` `mode=lexical` `` is shown as ``--mode lexical``. Advice in parentheses that names a
setting which the command does not have is left out: nobody could follow it.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Any

__all__ = ["COMMAND", "in_options", "option_of"]

COMMAND: ContextVar[Any] = ContextVar("command", default=None)
"""The command that runs, as typer made it; ``None`` outside the command line."""

#: A setting in a message, perhaps with a value: `k`, `mode=lexical`.
_SETTING = re.compile(r"`([a-z]\w*)(?:=([^`]*))?`")
_IN_PARENTHESES = re.compile(r" \([^()]*\)")


def in_options(message: str) -> str:
    """A message with the settings in backquotes spelled as the options of the command that runs.

    Settings that the command has no option for keep their names, without the backquotes; in parentheses, they take
    the parentheses with them.
    """

    def spelled(found: re.Match[str]) -> str:
        name, value = found.groups()
        option = option_of(name, off=value == "False")
        if option is None:
            return name if value is None else f"{name}={value}"
        return option if value in (None, "True", "False") else f"{option} {value}"

    def followed(found: re.Match[str]) -> str:
        named = [name for name, _ in _SETTING.findall(found.group())]
        return found.group() if all(option_of(name) for name in named) else ""

    return _SETTING.sub(spelled, _IN_PARENTHESES.sub(followed, message))


def option_of(name: str, *, off: bool = False) -> str | None:
    """How a parameter is spelled: its longest option, or an argument's place-holder; ``None`` if there is none."""
    command = COMMAND.get()
    for parameter in () if command is None else command.params:
        if parameter.name == name:
            options = parameter.secondary_opts if off and parameter.secondary_opts else parameter.opts
            return (
                (parameter.metavar or name.upper()).removesuffix("...").strip("[]")
                if parameter.param_type_name == "argument"
                else max(options, key=len)
            )
    return None
