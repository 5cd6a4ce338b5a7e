"""Whether the server lives, whether it should get requests, and what it has counted."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from llm2comp_apps.serving.call import Call, json_response
from llm2comp_apps.serving.openapi import openapi

__all__ = ["description", "live", "metrics", "ready"]


async def live(call: Call) -> Response:
    """``GET /livez``: the process answers."""
    del call
    return json_response({"status": "ok"})


async def ready(call: Call) -> Response:
    """``GET /readyz``: encoders are loaded and move, indexes can be read, and the server does not stop.

    A front with some shards that do not answer should get requests: it is ``partial``. Their names are for those who
    have the key; others see how many answer.
    """
    reasons = call.state.unready()
    found = {name: states for name, served in call.state.indexes.items() if (states := served.shard_states())}
    whole = all(shard["ok"] for states in found.values() for shard in states)
    shards: dict[str, Any] = found
    if call.state.settings.key_hash is not None:
        shards = {name: {"ok": sum(each["ok"] for each in states), "of": len(states)} for name, states in found.items()}
    status = "unavailable" if reasons else "ok" if whole else "partial"
    answer = {"status": status, "reasons": reasons, **({"shards": shards} if shards else {})}
    return json_response(answer, 503 if reasons else 200)


async def metrics(call: Call) -> Response:
    """``GET /metrics``."""
    return Response(call.state.metrics.text(), media_type="text/plain; version=0.0.4")


async def description(call: Call) -> Response:
    """``GET /openapi.json``."""
    del call
    return json_response(openapi())
