"""Indexes: what there is, search, similar documents, documents, topics."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from llm2comp_apps import Document
from llm2comp_apps.serving.call import Call, json_response
from llm2comp_apps.serving.errors import not_found

__all__ = ["document", "listed", "search", "similar", "topics"]

MODES = ("dense", "lexical", "hybrid")


async def listed(call: Call) -> Response:
    """``GET /indexes``."""
    results = []
    for served in call.state.indexes.values():
        index = served.collection.index
        results.append(
            {
                "name": served.name,
                "documents": len(index),
                "generation": index.generation,
                "dimension": index.dimension,
                "encoder": served.encoder_record.get("name"),
                "modes": [mode for mode in MODES if mode == "lexical" or served.engine is not None],
            }
        )
    return json_response({"results": results})


async def search(call: Call) -> Response:
    """``POST /indexes/{name}/search``."""
    served, fields, limits = call.state.index(call.path["name"]), call.fields, call.state.settings.limits
    query = fields.required("q", limit=20_000)
    settings: dict[str, Any] = {
        "k": fields.integer("limit", 10, least=1, most=limits.k),
        "mode": fields.choice("mode", MODES, "hybrid" if served.engine is not None else "lexical"),
        "where": fields.condition("where", limits),
    }
    if settings["mode"] != "lexical" and served.engine is not None:
        _ = served.engine.encoder  # told now if it is still loading
    hits = await call.in_thread(served.collection.search, query, **settings)
    return json_response({"hits": [hit.to_dict() for hit in hits], "query": query})


async def similar(call: Call) -> Response:
    """``POST /indexes/{name}/similar``."""
    served, fields, limits = call.state.index(call.path["name"]), call.fields, call.state.settings.limits
    where = fields.condition("where", limits)
    k = fields.integer("limit", 10, least=1, most=limits.k)
    hits = await call.in_thread(served.collection.similar, fields.required("id"), k=k, where=where)
    return json_response({"hits": [hit.to_dict() for hit in hits]})


async def document(call: Call) -> Response:
    """``GET /indexes/{name}/documents/{id}``."""
    served, wanted = call.state.index(call.path["name"]), call.path["id"]
    try:
        (found,) = await call.in_thread(served.collection.index.get, [wanted])
    except KeyError:
        raise not_found(f"there is no document {wanted[:200]!r}", code="document_not_found", param="id") from None
    return json_response(_plain(found))


async def topics(call: Call) -> Response:
    """``GET /indexes/{name}/topics``."""
    served = call.state.index(call.path["name"])
    model = await call.in_thread(lambda: served.topics)
    ids = [each.id for each in model.documents]
    return json_response({"topics": [topic.record(ids) for topic in model.hierarchy]})


def _plain(found: Document | Any) -> dict[str, Any]:
    return {"id": found.id, "title": found.title, "text": found.text, "metadata": found.metadata}
