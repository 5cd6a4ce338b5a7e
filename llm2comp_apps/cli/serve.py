"""``llm2comp serve``: indexes and encoders for programs."""

from __future__ import annotations

import signal
from inspect import Parameter
from typing import Annotated, Any

import typer

from llm2comp_apps.cli.options.common import DeviceOption, add_command
from llm2comp_apps.cli.options.expand import Group, option, with_groups
from llm2comp_apps.cli.ui.console import note
from llm2comp_apps.errors import LLM2CompError

__all__ = ["register"]

_INDEX = "Indexes to serve, each DIR or NAME=DIR. [default: $LLM2COMP_INDEX, else every *.index here]"


def _key(name: str, envvar: str, text: str) -> Parameter:
    return option(name, str | None, None, "KEY", text, envvar=envvar, show_envvar=False)


_SETTINGS = (
    option("encoder", str | None, None, "NAME", "Encoder for embeddings. [default: those of the indexes]"),
    option("shards", list[str], [], "URL,URL", "Servers of the parts of an index; URL|URL: replicas; repeatable."),
    option("deadline", float | None, None, "SECONDS", "Longest wait for shards; later ones are named. [default: 2]"),
    option("host", str, "127.0.0.1", "ADDRESS", "Address to listen at."),
    option("port", int, 8000, "PORT", "Port to listen at; 0 for any that is free."),
    option("allow_hosts", list[str], [], "NAME", "Further name of this server; repeatable.", flag="--allow-host"),
    option("cors", list[str], [], "ORIGIN", "Origin of web pages that may read answers; repeatable."),
    option("write", bool, False, None, "Let clients add and delete documents."),
    _key("api_key", "LLM2COMP_API_KEY", "Key that clients must send; safer in $LLM2COMP_API_KEY."),
    _key("shard_key", "LLM2COMP_SHARD_KEY", "Key that the shards' servers want. [default: that of --api-key]"),
    option("no_auth", bool, False, None, "Serve other machines without a key; something else must guard the port."),
    option("no_encoder", bool, False, None, "Load no encoder: for a shard, whose front has it."),
    option("max_wait", float, 30.0, "SECONDS", "Longest wait for the encoder; a longer one is refused at once."),
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    add_command(
        app,
        serve,
        "llm2comp serve library.index",
        "llm2comp serve --encoder default --port 8080",
        "llm2comp serve --shards http://a:8000,http://b:8000",
        "LLM2COMP_API_KEY=... llm2comp serve library.index --host 0.0.0.0 --allow-host search.example.org",
    )


@with_groups(
    option("watch", list[str], [], "FOLDER", "Folder that the index FOLDER.index beside it follows; repeatable."),
    given=Group(dict, _SETTINGS),
)
def serve(
    index: Annotated[list[str] | None, typer.Argument(metavar="[INDEX]...", help=_INDEX, show_default=False)] = None,
    *,
    given: dict[str, Any],
    watch: list[str],
    device: DeviceOption = None,
) -> None:
    """Serve indexes and encoders over HTTP: embeddings, reranking, search, topics.

    Clients of OpenAI, Cohere and Text Embeddings Inference can be pointed at it. Ctrl-C stops it.
    """
    from llm2comp_apps.retrieval.watching import followed_index

    try:
        from llm2comp_apps import serving as room
    except ImportError as error:
        raise LLM2CompError(f"{error.name} is not installed: pip install 'llm2comp-apps[serve]'") from error
    settings = room.asked_settings(index or (), watch, followed_index, device=device, **given)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which a server ends that has answered what was at work
    room.serve(settings, on_start=lambda url: note(f"Serving at {url}; ctrl-C stops."))
