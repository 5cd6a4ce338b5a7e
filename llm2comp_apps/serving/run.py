"""Running the application in this process until it is asked to stop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import FrameType

import uvicorn
from starlette.routing import BaseRoute

from llm2comp_apps import UsageError
from llm2comp_apps.serving.http import create_app
from llm2comp_apps.serving.page_files import PUBLIC, page_routes
from llm2comp_apps.serving.running import announced
from llm2comp_apps.serving.settings import ServeSettings
from llm2comp_apps.serving.state import State

__all__ = ["serve"]


class _Server(uvicorn.Server):
    """Refuses new work from the moment in which it is asked to stop."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came: end as asked; a second ctrl-C ends at once."""
        del frame
        self._state.draining = True
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def serve(settings: ServeSettings, *, on_start: Callable[[str], None] = lambda _: None) -> None:
    """Serve until SIGTERM or SIGINT; requests that are at work are answered first.

    Args:
        settings: what to serve.
        on_start: told the server's URL when it listens.

    Raises:
        UsageError: the address cannot be listened at.
        IndexStoreError: an index cannot be opened.
    """
    state = State(settings)
    listener = _listen(settings.host, settings.port)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    mcp, around = _mcp(state)
    app = create_app(state, more=[*page_routes(), *mcp], public=PUBLIC, around=around, on_start=lambda: on_start(url))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_seconds),
        timeout_keep_alive=30,
    )
    guarded = settings.key_hash is not None
    places = {name: served.path for name, served in state.indexes.items() if served.local}
    with listener, announced(url, places, key=guarded, write=settings.write):
        _Server(config, state).run(sockets=[listener])


def _mcp(state: State) -> tuple[list[BaseRoute], list[Callable[[], AbstractAsyncContextManager[None]]]]:
    """The tools of MCP where its package is installed."""
    try:
        from llm2comp_apps.serving.mcp import mcp_routes
    except ImportError:
        return [], []
    routes, around = mcp_routes(state)
    return routes, [around]


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # By its protocol asyncio knows a connection of TCP, and sends each piece of an answer at once. Otherwise the second
    # piece would wait some 40 ms for the client's word that the first has come.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise UsageError(f"{port} at {host} cannot be listened at: {error.strerror}", field="port") from error
    return listener
