"""``llm2comp mcp``: tools over indexes for assistants, on standard input and output."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from llm2comp_apps.cli.options.common import DeviceOption, add_command
from llm2comp_apps.cli.options.expand import option, with_groups
from llm2comp_apps.errors import LLM2CompError

__all__ = ["register"]

_INDEX = "Indexes, each DIR or NAME=DIR. [default: $LLM2COMP_INDEX, else every *.index here]"
_OPTIONS = (
    option("write", bool, False, None, "Let the assistant add and delete documents."),
    option(
        "api_key", str | None, None, "KEY", "Key of a running server that wants one; safer in $LLM2COMP_API_KEY.",
        envvar="LLM2COMP_API_KEY", show_envvar=False,
    ),
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    add_command(app, mcp, "llm2comp mcp library.index", "llm2comp mcp library.index mail.index --write")


@with_groups(*_OPTIONS)
def mcp(
    index: Annotated[list[str] | None, typer.Argument(metavar="[INDEX]...", help=_INDEX, show_default=False)] = None,
    *,
    write: bool,
    api_key: str | None,
    device: DeviceOption = None,
) -> None:
    """Offer search, read, similar, topics and status to an assistant by the Model Context Protocol.

    The assistant's program starts this command and speaks with it through standard input and output. A running
    llm2comp serve with the same indexes answers, so that no second model is loaded; without one, this command does.
    """
    try:
        from llm2comp_apps.serving.door import StandingDoor
        from llm2comp_apps.serving.mcp import mcp_server
        from llm2comp_apps.serving.settings import ServeSettings, usual_indexes
    except ImportError as error:
        raise LLM2CompError(f"{error.name} is not installed: pip install 'llm2comp-apps[mcp]'") from error
    settings = ServeSettings(indexes=index or usual_indexes(), write=write, device=device)
    server = mcp_server(StandingDoor(settings, api_key), write=write)
    # The thread that waits for a line of standard input cannot be asked to stop, and Python would wait for it: ctrl-C
    # ends the process at once, as SIGTERM does. What is written to an index meanwhile is there whole or not at all.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        server.run("stdio")
    finally:
        signal.signal(signal.SIGINT, before)
