"""The application: routes, and what stands before them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from llm2comp_apps.serving.call import endpoint
from llm2comp_apps.serving.routes import embeddings, health, indexes
from llm2comp_apps.serving.state import State

__all__ = ["create_app"]


def routes() -> list[BaseRoute]:
    """Every route of the API."""
    found: list[BaseRoute] = []
    for path, handler in (("/livez", health.live), ("/readyz", health.ready), ("/metrics", health.metrics)):
        found.append(Route(path, endpoint(handler, work=False), methods=["GET"]))
    for prefix in ("/v1", ""):
        found += [
            Route(f"{prefix}/models", endpoint(embeddings.models, face="openai"), methods=["GET"]),
            Route(f"{prefix}/embeddings", endpoint(embeddings.embeddings, face="openai"), methods=["POST"]),
        ]
    return [
        *found,
        Route("/indexes", endpoint(indexes.listed), methods=["GET"]),
        Route("/indexes/{name}/search", endpoint(indexes.search), methods=["GET", "POST"]),
        Route("/indexes/{name}/similar", endpoint(indexes.similar), methods=["GET", "POST"]),
        Route("/indexes/{name}/documents/{id:path}", endpoint(indexes.document), methods=["GET"]),
        Route("/indexes/{name}/topics", endpoint(indexes.topics), methods=["GET"]),
    ]


def create_app(
    state: State, *, more: Sequence[BaseRoute] = (), on_start: Callable[[], None] = lambda: None
) -> Starlette:
    """The application of a server.

    Args:
        state: what it serves; started and closed with the application.
        more: further routes, such as those of a page.
        on_start: called when the application has started.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        state.start()
        on_start()
        try:
            yield
        finally:
            state.close()

    app = Starlette(routes=[*routes(), *more], lifespan=lifespan)
    app.state.llm2comp = state
    return app
