"""``llm2comp serve``: indexes and encoders for programs."""

from __future__ import annotations

from typing import Annotated

import typer

from llm2comp_apps.cli.options.common import DeviceOption, add_command
from llm2comp_apps.cli.options.expand import option, with_groups
from llm2comp_apps.cli.ui.console import note
from llm2comp_apps.errors import LLM2CompError

__all__ = ["register"]

_INDEX = "Indexes to serve, each DIR or NAME=DIR. [default: $LLM2COMP_INDEX, else every *.index here]"
_OPTIONS = (
    option("encoder", str | None, None, "NAME", "Encoder for embeddings. [default: those of the indexes]"),
    option("host", str, "127.0.0.1", "ADDRESS", "Address to listen at."),
    option("port", int, 8000, "PORT", "Port to listen at; 0 for any that is free."),
    option(
        "api_key", str | None, None, "KEY", "Key that clients must send; safer in $LLM2COMP_API_KEY.",
        envvar="LLM2COMP_API_KEY", show_envvar=False,
    ),
    option("no_auth", bool, False, None, "Serve other machines without a key; something else must guard the port."),
    option("allow_host", list[str], [], "NAME", "Further name under which clients reach the server; repeatable."),
    option("cors", list[str], [], "ORIGIN", "Origin of web pages that may read answers; repeatable."),
    option("watch", list[str], [], "FOLDER", "Folder that the index FOLDER.index beside it follows; repeatable."),
    option("write", bool, False, None, "Let clients add and delete documents."),
    option("max_wait", float, 30.0, "SECONDS", "Longest wait for the encoder; a longer one is refused at once."),
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    add_command(
        app,
        serve,
        "llm2comp serve library.index",
        "llm2comp serve --encoder default --port 8080",
        "LLM2COMP_API_KEY=... llm2comp serve library.index --host 0.0.0.0 --allow-host search.example.org",
    )


@with_groups(*_OPTIONS)
def serve(
    index: Annotated[list[str] | None, typer.Argument(metavar="[INDEX]...", help=_INDEX, show_default=False)] = None,
    *,
    encoder: str | None,
    host: str,
    port: int,
    api_key: str | None,
    no_auth: bool,
    allow_host: list[str],
    cors: list[str],
    watch: list[str],
    write: bool,
    max_wait: float,
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
    following = {followed_index(folder, device): folder for folder in watch}
    named = list(dict.fromkeys([*(index or ()), *following]))
    settings = room.ServeSettings(
        indexes=named or ([] if encoder else room.usual_indexes()),
        watch=dict(zip(room.named_indexes(list(following)), following.values(), strict=True)),
        encoder=encoder, host=host, port=port, key_hash=room.key_hash(api_key), auth=not no_auth,
        allow_hosts=allow_host, cors=cors, write=write, device=device, limits=room.Limits(max_wait=max_wait),
    )  # fmt: skip
    room.serve(settings, on_start=lambda url: note(f"Serving at {url}; ctrl-C stops."))
