"""What a client is told when a request fails, in the form that the client knows.

OpenAI's clients read ``{"error": {"message", "type", "param", "code"}}``, those of Text Embeddings Inference
``{"error", "error_type"}``. A message never names a path of this machine.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = [
    "ApiError",
    "OverloadedError",
    "busy",
    "invalid",
    "not_found",
    "openai_error",
    "tei_error",
]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
_TEI_TYPES = {**dict.fromkeys((400, 404, 413, 422), "Validation"), 429: "Overloaded", 503: "Unhealthy"}


class ApiError(Exception):
    """A request that cannot be answered.

    Attributes:
        status: of HTTP.
        message: a finished sentence.
        code: for programs.
        param: the field of the request that is wrong.
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}


class OverloadedError(ApiError):
    """More waits for the encoder than can be served in time."""

    def __init__(self, seconds: float) -> None:
        message = f"the server is busy: this request would wait about {seconds:.0f} seconds; try again later"
        super().__init__(429, message, code="overloaded", retry_after=seconds)


def invalid(param: str | None, reason: str, *, code: str = "invalid_value", status: int = 422) -> ApiError:
    """A field of the request is wrong."""
    return ApiError(status, f"{param} {reason}" if param else reason, code=code, param=param)


def not_found(what: str, *, code: str = "not_found", param: str | None = None) -> ApiError:
    """There is nothing of that name."""
    return ApiError(404, what, code=code, param=param)


def busy(message: str, *, seconds: float = 1.0) -> ApiError:
    """The server starts, stops or waits for another program."""
    return ApiError(503, message, code="unavailable", retry_after=seconds)


def openai_error(error: ApiError) -> dict[str, Any]:
    """The error as OpenAI's clients read it."""
    kind = _TYPES.get(error.status, "server_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


def tei_error(error: ApiError) -> dict[str, Any]:
    """The error as clients of Text Embeddings Inference read it."""
    return {"error": error.message, "error_type": _TEI_TYPES.get(error.status, "Backend")}
