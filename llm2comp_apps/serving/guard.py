"""What stands before every route: who may ask, under which name, from which page.

A web page can have its own name point at this machine (DNS rebinding) and then read a server that listens at loopback
only; so the Host header must be one that is expected. A page of another origin may send requests that change something
without being able to read the answer; so the Origin header must be one that is expected, too.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from llm2comp_apps.serving.call import Face, error_response
from llm2comp_apps.serving.errors import ApiError
from llm2comp_apps.serving.settings import LOOPBACK, ServeSettings, is_address

__all__ = ["ALWAYS_PUBLIC", "TEI_PATHS", "Guard"]

ALWAYS_PUBLIC = ("/livez", "/readyz", "/health", "/healthz", "/ping")
"""Paths that need no key: whoever restarts the server has none."""
TEI_PATHS = ("/embed", "/embed_all", "/similarity", "/tokenize", "/info")
"""Paths of Text Embeddings Inference, whose clients know another form of errors."""


class Guard:
    """Lets a request through, or answers it.

    Args:
        app: what is guarded.
        settings: names, origins and the key.
        public: further paths that need no key; one that ends with a slash stands for all below it.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, public: Iterable[str] = ()) -> None:
        self._app = app
        self._key_hash = settings.key_hash
        self._names = {name.lower() for name in (*LOOPBACK, settings.host, *settings.allow_hosts)}
        self._any_name = "*" in settings.allow_hosts
        # Other machines come by address or by this machine's name; a page that rebinds a name needs a name.
        self._addresses = settings.host not in LOOPBACK
        if self._addresses:
            self._names.add(socket.gethostname().lower())
        self._origins: Collection[str] = set(settings.cors)
        self._public = (*ALWAYS_PUBLIC, *public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            error = self._refusal(scope["path"], Headers(scope=scope))
            if error is not None:
                face: Face = "tei" if scope["path"] in TEI_PATHS else "own"
                await error_response(error, face)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> ApiError | None:
        host = headers.get("host")
        if host is not None and not self._is_ours(host):
            message = "the Host header names another server; `allow_hosts` takes further names"
            return ApiError(400, message, code="host_not_allowed")
        origin = headers.get("origin")
        if origin is not None and not self._is_known(origin):
            return ApiError(403, "requests from pages of this origin are not allowed", code="origin_not_allowed")
        if self._key_hash is not None and not self._is_public(path):
            given = _key_of(headers)
            if given is None or not hmac.compare_digest(hashlib.sha256(given).digest(), self._key_hash):
                return ApiError(401, "the key is missing or wrong; send it as a bearer token", code="invalid_api_key")
        return None

    def _is_public(self, path: str) -> bool:
        below = [each for each in self._public if each.endswith("/") and each != "/"]
        return path in self._public or path.startswith(tuple(below))

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header, with or without a port, names this server."""
        if self._any_name:
            return True
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        return name in self._names or (self._addresses and is_address(name))

    def _is_known(self, origin: str) -> bool:
        """Whether a page of this origin may ask: it came from here, or it was allowed."""
        if "*" in self._origins or origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and self._is_ours(parts.netloc)


def _key_of(headers: Headers) -> bytes | None:
    """The key of a request: a bearer token as OpenAI's clients send it, or a header of its own."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    found = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key") or headers.get("api-key")
    return found.encode("latin-1", "replace") if found else None
