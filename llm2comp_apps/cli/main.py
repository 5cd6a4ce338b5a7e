"""The ``llm2comp`` command: one small module per command, put together here."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Annotated

import typer

from llm2comp_apps import __version__
from llm2comp_apps.cli.options.common import examples
from llm2comp_apps.cli.ui.errors import CommandGroup
from llm2comp_apps.stopping import interrupt_on_sigterm

__all__ = ["app", "main"]

_COMMANDS = (
    "cluster",
    "doctor",
    "encode",
    "evaluate",
    "explain",
    "export_model",
    "index",
    "mcp",
    "push",
    "rerank",
    "search",
    "serve",
    "shard",
    "train",
)

app = typer.Typer(
    name="llm2comp",
    cls=CommandGroup,
    no_args_is_help=True,
    # Plain help: rich's boxes double the time of --help, and square brackets in help texts would be markup.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llm2comp {__version__}")
        raise typer.Exit


@app.callback(epilog=examples("llm2comp index build corpus.jsonl", 'llm2comp search "how do cells divide"'))
def _llm2comp(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Turn a causal LLM into a text encoder (LLM2Comp); search, rerank and cluster your documents with it.

    Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong call, 130 interrupted.
    """


for _name in _COMMANDS:  # each module imports what is heavy inside its commands
    importlib.import_module(f"llm2comp_apps.cli.{_name}").register(app)


def main() -> None:
    """Entry point of the ``llm2comp`` script."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who called: `llm2comp ... >&-`
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal or pipe that has no name for a character of a document gets its number, and not a traceback.
            stream.reconfigure(errors="backslashreplace")
    interrupt_on_sigterm()
    app()
