"""How errors end a run: one line on stderr and an exit code, in the words of the command line.

The ``field`` of an error becomes the option of the command that was called; see :mod:`.spelling`.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from llm2comp_apps.cli.completion import offer_values
from llm2comp_apps.cli.ui.console import note, warn
from llm2comp_apps.cli.ui.spelling import COMMAND, option_of
from llm2comp_apps.errors import LLM2CompError
from llm2comp_apps.files import first_line

__all__ = ["DEBUG_ENV", "INTERRUPTED", "CommandGroup"]

#: Set to anything to get a traceback where people get one line.
DEBUG_ENV = "LLM2COMP_DEBUG"
#: What a shell reports for a process that SIGINT ended.
INTERRUPTED = 130
_ORDER = (
    *("index", "search", "rerank", "cluster", "encode", "serve", "mcp"),
    *("train", "eval", "export-model", "push", "doctor"),
)


class CommandGroup(TyperGroup):
    """The top command: turns the errors that people can act on into one line on stderr and an exit code.

    Here and not in ``main`` so that typer's ``CliRunner`` sees the same behaviour as the process does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Put together, when all commands are there."""
        super().__init__(*args, **kwargs)
        offer_values(self)

    def list_commands(self, ctx: Any) -> list[str]:
        """Commands in the order in which people come to need them; typer itself puts groups last."""
        return sorted(
            super().list_commands(ctx), key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER)
        )

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the options; those of the top command print as they are read: help, the version, completion.

        Raises:
            typer.Exit: nothing can be printed, and one line has said why.
        """
        try:
            return super().make_context(*args, **kwargs)
        except OSError as error:
            if os.environ.get(DEBUG_ENV):
                raise
            raise _stop_by_system(error) from error

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for.

        Raises:
            typer.Exit: with the error's exit code, after its line has been printed.
        """
        if os.environ.get(DEBUG_ENV):
            return super().invoke(ctx)
        from llm2comp_apps.cli.ui.log import hide_logs, show_log  # here, since help needs no logging

        show_log("llm2comp_apps")
        token = COMMAND.set(_called(ctx.command, [*ctx._protected_args, *ctx.args]))
        show, warnings.showwarning = warnings.showwarning, _show_warning
        try:
            return super().invoke(ctx)
        except LLM2CompError as error:
            raise _stop(_told(error), error.exit_code) from error
        except KeyboardInterrupt as error:
            raise _stop("interrupted", INTERRUPTED) from error
        except OSError as error:
            raise _stop_by_system(error) from error
        except _index_errors() as error:
            raise _stop(_told(error), error.exit_code) from error
        except ImportError as error:
            if (missing := _missing_package(error)) is None:
                raise
            raise _stop(missing, 1) from error
        finally:
            warnings.showwarning = show
            COMMAND.reset(token)
            hide_logs()


def _stop(message: str, exit_code: int) -> typer.Exit:
    note(f"Error: {message}")
    return typer.Exit(exit_code)


def _stop_by_system(error: OSError) -> typer.Exit:
    """Tell what the operating system refused; a pipe that was closed is left to typer."""
    if error.errno == errno.EPIPE:
        raise error
    reason = error.strerror or str(error)  # a full disk comes without the file's name
    return _stop(f"{os.fspath(error.filename)}: {reason}" if error.filename else reason, 1)


def _index_errors() -> tuple[type[Any], ...]:
    """The index room's base error, without importing that room for commands that did not."""
    errors = sys.modules.get("llm2comp_indexes.errors")
    return () if errors is None else (errors.IndexStoreError,)


def _missing_package(error: ImportError) -> str | None:
    """What to say of a package that is not installed or does not load; ``None`` where an import of ours is wrong."""
    package = (error.name or "").partition(".")[0]
    if not package or package.startswith("llm2comp_"):
        return None
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return f"this needs the package {package}, which is not installed (llm2comp doctor says more)"
    return f"the package {package} cannot be imported: {first_line(error)} (llm2comp doctor says more)"


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    warn(" ".join(str(message).split()))  # those of libraries may be of several lines


def _told(error: Any) -> str:
    """An error's line in the words of the command that raised it."""
    field = getattr(error, "field", None)
    option = option_of(field) if field else None
    return f"{option} {error.reason}" if option else str(error)


def _called(command: Any, arguments: list[str]) -> Any:
    """The command at the end of the path that the arguments begin with; a group may have one that needs no name."""
    for name in arguments:
        commands = getattr(command, "commands", {})
        inner = commands.get(name) or commands.get(getattr(command, "unnamed", None))
        if inner is None:
            return command
        command = inner
    return command
