"""What the commands share: where output goes, how errors end a run, the options that several commands take.

Results go to stdout, everything else to stderr. Nothing heavy is imported here: ``--help`` pays for this module.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import warnings
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from llm2comp_apps.errors import LLM2CompError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "DEBUG_ENV",
    "INTERRUPTED",
    "CommandGroup",
    "DeviceOption",
    "EncoderOption",
    "JsonOption",
    "examples",
    "note",
    "print_json",
    "stderr_console",
    "stdout_console",
    "stdout_is_unicode",
    "warn",
]

#: Set to anything to get a traceback where people get one line.
DEBUG_ENV = "LLM2COMP_DEBUG"
#: What a shell reports for a process that SIGINT ended.
INTERRUPTED = 130
_ORDER = ("index", "search", "rerank", "cluster", "encode", "train", "eval", "doctor")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 ... [default: what is there]")
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="default, a checkpoint directory, a Hugging Face id, or a plain LLM training-free: "
        "baseline:lt|wmp|ee|prompteol|metaeol, with @LLM for another than the default one "
        "(baseline:prompteol@path/to/llm).",
    ),
]


def examples(*commands: str) -> str:
    r"""The ``epilog`` of a command: its examples, one a line (the leading ``\b`` keeps the lines apart)."""
    title = "Example:" if len(commands) == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  {command}" for command in commands)])


def stdout_console() -> Console:
    """A rich console for results; plain text at a fixed width where stdout is no terminal."""
    return _console(to_stderr=False)


def stderr_console() -> Console:
    """A rich console for everything that is not a result."""
    return _console(to_stderr=True)


def _console(*, to_stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    # Made anew at each call, since a Console holds on to the stream and sys.stdout may be replaced (tests do).
    # A pipe has no width: it gets 80 columns, so that what is printed there does not depend on the machine.
    width = None if stream.isatty() or "COLUMNS" in os.environ else 80
    return Console(file=stream, width=width, highlight=False, emoji=False)


def note(message: str) -> None:
    """Print one line for people on stderr."""
    typer.echo(message, err=True)


def warn(message: str) -> None:
    """Print one warning line on stderr."""
    note(f"Warning: {message}")


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=not stdout_is_unicode(), indent=2))


def stdout_is_unicode() -> bool:
    """Whether stdout takes any character; where it does not, JSON has escapes of its own for what it lacks."""
    return (sys.stdout.encoding or "utf-8").lower().replace("_", "-").startswith("utf")


class CommandGroup(TyperGroup):
    """The top command: turns the errors that people can act on into one line on stderr and an exit code.

    Here and not in ``main`` so that typer's ``CliRunner`` sees the same behaviour as the process does.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Commands in the order in which people come to need them; typer itself puts groups last."""
        return sorted(
            super().list_commands(ctx), key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER)
        )

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for.

        Raises:
            typer.Exit: with the error's exit code, after its line has been printed.
        """
        if os.environ.get(DEBUG_ENV):
            return super().invoke(ctx)
        show, warnings.showwarning = warnings.showwarning, _show_warning
        try:
            return super().invoke(ctx)
        except LLM2CompError as error:
            raise _stop(str(error), error.exit_code) from error
        except KeyboardInterrupt as error:
            raise _stop("interrupted", INTERRUPTED) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            reason = error.strerror or str(error)  # a full disk comes without the file's name
            raise _stop(f"{os.fspath(error.filename)}: {reason}" if error.filename else reason, 1) from error
        except _index_errors() as error:
            raise _stop(str(error), error.exit_code) from error
        finally:
            warnings.showwarning = show


def _stop(message: str, exit_code: int) -> typer.Exit:
    note(f"Error: {message}")
    return typer.Exit(exit_code)


def _index_errors() -> tuple[type[Any], ...]:
    """The index room's base error, without importing that room for commands that did not."""
    errors = sys.modules.get("llm2comp_indexes.errors")
    return () if errors is None else (errors.IndexStoreError,)


def _show_warning(
    message: Warning | str,
    category: type[Warning],  # noqa: ARG001 - the signature is that of warnings.showwarning
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: object = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    warn(str(message))
