"""Where output goes: results to stdout, everything else to stderr.

Nothing heavy is imported here: ``--help`` pays for this module.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any, TextIO

import typer

from llm2comp_apps.cli.ui.spelling import in_options

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "is_terminal",
    "note",
    "print_json",
    "printable",
    "stderr_console",
    "stdout_console",
    "stdout_is_unicode",
    "warn",
]

# C0, DEL and C1, but for tab and newline: a terminal takes these for commands (clear the screen, set the title).
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NOT_IN_A_LINE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")  # these, and what splits a line


def stdout_console() -> Console:
    """A rich console for results; plain text at a fixed width where stdout is no terminal."""
    return _console(to_stderr=False)


def stderr_console() -> Console:
    """A rich console for everything that is not a result."""
    return _console(to_stderr=True)


def _console(*, to_stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    # Made at each call, since a Console holds on to the stream and sys.stdout may be replaced (tests do).
    return Console(file=stream, width=_width(stream), highlight=False, emoji=False)


def _width(stream: TextIO) -> int | None:
    """The columns of a console; ``None`` lets rich ask the variable or the terminal."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns):
        return None
    if not stream.isatty():
        # A pipe has no width: it gets 80 columns, so that what is printed there does not depend on the machine.
        return 80
    # Consoles of containers and editors say that they have 0 columns, in which rich would print nothing at all.
    return shutil.get_terminal_size().columns if columns.isdigit() else None


def note(*messages: str) -> None:
    """Print lines for people on stderr, their settings in backquotes spelled as options of the running command."""
    for message in messages:
        # Names of files may hold line breaks and commands to a terminal: they are shown as Python writes them.
        typer.echo(_NOT_IN_A_LINE.sub(lambda found: ascii(found[0])[1:-1], in_options(message)), err=True)


def warn(*messages: str) -> None:
    """Print warnings on stderr, a line each."""
    note(*(f"Warning: {message}" for message in messages))


def print_json(value: Any, *, line: bool = False) -> None:
    """Print ``value`` as JSON on stdout: indented, or in one line."""
    typer.echo(json.dumps(value, ensure_ascii=not stdout_is_unicode(), indent=None if line else 2))


def printable(text: str) -> str:
    """The text of a document without the control characters by which it could command a terminal."""
    return _CONTROL.sub("", text)


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody sits at the other end of a stream."""
    return stream.isatty()


def stdout_is_unicode() -> bool:
    """Whether stdout takes any character; where it does not, JSON has escapes of its own for what it lacks."""
    return (sys.stdout.encoding or "utf-8").lower().replace("_", "-").startswith("utf")
