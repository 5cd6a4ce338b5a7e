"""Write ``docs/reference/cli.md`` from the help of every command: ``python docs/generate_cli.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from llm2comp_apps.cli.main import app

PAGE = Path(__file__).parent / "reference" / "cli.md"
WIDTH = 100
HEAD = """<!-- Written by docs/generate_cli.py from the help texts. Change those, and run it again. -->

# Command line

Every command prints this text with `--help`. Results go to standard output, everything else to standard error.
"""


def commands(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, str]]:
    """What one types for every command, and its help; a group before its commands, in the order of the help."""
    context = command.make_context(
        name, [], parent=parent, resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH
    )
    yield context.command_path, command.get_help(context)
    for inner in command.list_commands(context) if hasattr(command, "list_commands") else ():
        yield from commands(command.get_command(context, inner), inner, context)


def page() -> str:
    """The whole page."""
    sections = [HEAD]
    for path, text in commands(typer.main.get_command(app), "llm2comp"):
        lines = "\n".join(line.rstrip() for line in text.splitlines())
        sections.append(f"## `{path}`\n\n```text\n{lines}\n```\n")
    return "\n".join(sections)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
