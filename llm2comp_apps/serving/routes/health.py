"""Whether the server lives, whether it should get requests, and what it has counted."""

from __future__ import annotations

from starlette.responses import Response

from llm2comp_apps.serving.call import Call, json_response
from llm2comp_apps.serving.openapi import openapi

__all__ = ["description", "live", "metrics", "ready"]


async def live(call: Call) -> Response:
    """``GET /livez``: the process answers."""
    del call
    return json_response({"status": "ok"})


async def ready(call: Call) -> Response:
    """``GET /readyz``: encoders are loaded and move, indexes can be read, and the server does not stop."""
    reasons = call.state.unready()
    return json_response({"status": "unavailable" if reasons else "ok", "reasons": reasons}, 503 if reasons else 200)


async def metrics(call: Call) -> Response:
    """``GET /metrics``."""
    return Response(call.state.metrics.text(), media_type="text/plain; version=0.0.4")


async def description(call: Call) -> Response:
    """``GET /openapi.json``."""
    del call
    return json_response(openapi())
