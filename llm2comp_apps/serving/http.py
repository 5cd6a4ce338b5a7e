"""The application: routes, and what stands before them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from llm2comp_apps.serving.call import Call, Face, endpoint, error_response
from llm2comp_apps.serving.errors import ApiError
from llm2comp_apps.serving.guard import TEI_PATHS, Guard
from llm2comp_apps.serving.openapi import known_fields
from llm2comp_apps.serving.routes import browse, embeddings, health, indexes, rerank, shard, tei, writing
from llm2comp_apps.serving.state import State

__all__ = ["create_app"]


def routes() -> list[BaseRoute]:
    """Every route of the API."""
    ready = ("/readyz", "/health", "/healthz", "/ping")
    return [
        _route("GET", "/livez", health.live, work=False),
        *(_route("GET", path, health.ready, work=False) for path in ready),
        _route("GET", "/metrics", health.metrics, work=False),
        _route("GET", "/openapi.json", health.description, work=False),
        *(_route("GET", f"{prefix}/models", embeddings.models, face="openai") for prefix in ("/v1", "")),
        *(_route("GET", f"{prefix}/models/{{id:path}}", embeddings.model, face="openai") for prefix in ("/v1", "")),
        *(_route("POST", f"{prefix}/embeddings", embeddings.embeddings, face="openai") for prefix in ("/v1", "")),
        *(_route("POST", f"{prefix}/rerank", rerank.rerank, face="openai") for prefix in ("/v1", "/v2", "")),
        *(_route("POST", path, tei.embed, face="tei") for path in ("/embed", "/")),
        _route("POST", "/embed_all", tei.embed_all, face="tei"),
        _route("POST", "/similarity", tei.similarity, face="tei"),
        _route("POST", "/tokenize", tei.tokenize, face="tei"),
        _route("GET", "/info", tei.info, face="tei"),
        _route("GET", "/indexes", indexes.listed),
        _route("GET", "/indexes/{name}/search", indexes.search),
        _route("POST", "/indexes/{name}/search", indexes.search),
        _route("GET", "/indexes/{name}/similar", indexes.similar),
        _route("POST", "/indexes/{name}/similar", indexes.similar),
        _route("GET", "/indexes/{name}/topics", indexes.topics),
        _route("GET", "/indexes/{name}/topics/{topic}", browse.topic),
        _route("GET", "/indexes/{name}/map", browse.drawn_map),
        _route("GET", "/indexes/{name}/fields", browse.fields),
        _route("POST", "/indexes/{name}/browse", browse.browse),
        _route("POST", "/indexes/{name}/shard/{question}", shard.shard),
        _route("POST", "/indexes/{name}/documents", writing.add),
        _route("POST", "/indexes/{name}/documents/delete", writing.delete),
        _route("GET", "/indexes/{name}/documents", indexes.document),
        _route("GET", "/indexes/{name}/documents/{id:path}", indexes.document),
        _route("DELETE", "/indexes/{name}/documents/{id:path}", writing.delete_one),
    ]


def _route(
    method: str, path: str, handler: Callable[[Call], Awaitable[Response]], *, face: Face = "own", work: bool = True
) -> Route:
    route = Route(path, endpoint(handler, face=face, work=work, known=known_fields(method, path)), methods=[method])
    # Ids may hold line breaks; otherwise "a\n" would be no id, or that of "a".
    route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
    return route


def create_app(
    state: State,
    *,
    more: Sequence[BaseRoute] = (),
    public: Sequence[str] = (),
    around: Sequence[Callable[[], contextlib.AbstractAsyncContextManager[None]]] = (),
    on_start: Callable[[], None] = lambda: None,
) -> Starlette:
    """The application of a server.

    Args:
        state: what it serves; started and closed with the application.
        more: further routes, such as those of a page.
        public: paths among them that need no key; one that ends with a slash stands for all below it.
        around: what must run as long as the application does.
        on_start: called when the application has started.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        state.start()
        try:
            async with contextlib.AsyncExitStack() as stack:
                for each in around:
                    await stack.enter_async_context(each())
                on_start()
                yield
        finally:
            await asyncio.to_thread(state.close)

    settings = state.settings
    before = [Middleware(Guard, settings=settings, public=public)]
    if settings.cors:
        named = ["authorization", "content-type", "x-api-key"]
        before.insert(
            0, Middleware(CORSMiddleware, allow_origins=settings.cors, allow_methods=["*"], allow_headers=named)
        )
    app = Starlette(
        routes=[*routes(), *more],
        middleware=before,
        exception_handlers={HTTPException: _no_route},
        lifespan=lifespan,
    )
    app.state.llm2comp = state
    return app


async def _no_route(request: Request, error: Exception) -> Response:
    """The answer where no route is, or none for the method."""
    assert isinstance(error, HTTPException)
    state: State = request.app.state.llm2comp
    state.metrics.requests.labels("none", str(error.status_code)).inc()
    path = request.url.path[:200]
    reason = f"{request.method} is not possible at" if error.status_code == 405 else "there is nothing at"
    told = ApiError(error.status_code, f"{reason} {path}", code="no_route")
    response = error_response(told, "tei" if path in TEI_PATHS else "own")
    response.headers.update(error.headers or {})
    return response
