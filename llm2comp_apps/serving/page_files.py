"""The page's files, as they lie in the package. They load nothing from elsewhere, and a browser is told so."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

__all__ = ["PUBLIC", "page_routes"]

PUBLIC = ("/", "/page/")
"""Paths that need no key: the page asks for the key itself."""

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # a browser asks whether its copy is current
}


def page_routes() -> list[BaseRoute]:
    """The routes of the page."""
    return [
        Route("/", _start, methods=["GET"]),
        Route("/page/{name}", _file, methods=["GET"]),
    ]


async def _start(request: Request) -> Response:
    return _answer(request, "index.html")


async def _file(request: Request) -> Response:
    return _answer(request, request.path_params["name"])


def _answer(request: Request, name: str) -> Response:
    found = _files().get(name)
    if found is None:
        return Response("there is no such file", 404, media_type="text/plain")
    content, kind, tag = found
    headers = {**_HEADERS, "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=f"{kind}; charset=utf-8")


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    """Content, type and tag of each file by its name; what draws points is that of the map's own page."""
    own = resources.files("llm2comp_apps.serving") / "page"
    points = resources.files("llm2comp_apps.clustering.output") / "assets" / "points.js"
    found: dict[str, tuple[bytes, str, str]] = {}
    files: list[Traversable] = [*own.iterdir(), points]
    for file in files:
        kind = _TYPES.get(f".{file.name.rpartition('.')[2]}")
        if kind:
            content = file.read_bytes()
            found[file.name] = content, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    return found
