"""What a page needs beside search: the fields of documents, the map, a topic's documents, documents without a query."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from llm2comp_apps.serving.call import Call, json_response
from llm2comp_apps.serving.errors import not_found
from llm2comp_apps.serving.narrowing import narrowed
from llm2comp_apps.serving.routes.indexes import distribution, partly, warned

if TYPE_CHECKING:
    from llm2comp_indexes import IndexedDocument

__all__ = ["browse", "drawn_map", "fields", "topic"]

_SNIPPET = 220
_VALUES = 200


async def fields(call: Call) -> Response:
    """``GET /indexes/{name}/fields``."""
    served = call.state.index(call.path["name"])
    found, missing = await call.in_thread(served.answered, lambda: served.fields)
    return json_response({"fields": found, **partly(missing)})


async def drawn_map(call: Call) -> Response:
    """``GET /indexes/{name}/map``."""
    served = call.state.index(call.path["name"])
    return json_response(await call.in_thread(lambda: served.topic_map.payload()))


async def topic(call: Call) -> Response:
    """``GET /indexes/{name}/topics/{topic}``: a topic and its documents."""
    served, limits = call.state.index(call.path["name"]), call.state.settings.limits
    offset = call.fields.integer("offset", 0, least=0, most=10_000_000)
    limit = call.fields.integer("limit", 20, least=1, most=limits.k)
    drawn = await call.in_thread(lambda: served.topic_map)
    wanted = call.path["topic"]
    number = int(wanted) if wanted.isdecimal() and len(wanted) < 10 else -1
    ids = drawn.of_topic(number)
    if ids is None:
        raise not_found(f"there is no topic {wanted[:50]!r}", code="topic_not_found", param="topic")
    record = next(each.record(drawn.ids) for each in drawn.model.topics if each.id == number)
    index = served.collection.index
    there = await call.in_thread(lambda: index.hashes(ids[offset : offset + limit]))
    found = await call.in_thread(index.get, [each for each in ids[offset : offset + limit] if each in there])
    documents = [{"id": each.id, "title": each.title} for each in found]
    return json_response({"topic": {**record, "size": len(ids)}, "documents": documents})


async def browse(call: Call) -> Response:
    """``POST /indexes/{name}/browse``: documents in the order in which they are stored, without a query."""
    start = time.perf_counter()
    served, limits = call.state.index(call.path["name"]), call.state.settings.limits
    offset = call.fields.integer("offset", 0, least=0, most=10 * limits.k)
    limit = call.fields.integer("limit", 10, least=1, most=limits.k)
    facets = call.fields.strings("facets", most=limits.facets)
    where = await narrowed(call, served)

    def work() -> dict[str, Any]:
        with served.collection.index.pinned() as index:
            page = index.listing(where=where, offset=offset, limit=limit, fields=facets)
            hits = _listed(index.get(page.ids), offset)
        counts = distribution({name: values[:_VALUES] for name, values in page.counts.items()})
        return {"hits": hits, "estimatedTotalHits": page.total, "facetDistribution": counts}

    answer, missing = await call.in_thread(served.answered, work)
    milliseconds = round((time.perf_counter() - start) * 1000, 1)
    warnings = await warned(call, served, missing)
    return json_response({**answer, "processingTimeMs": milliseconds, **warnings, **partly(missing)})


def _listed(documents: Iterable[IndexedDocument], offset: int) -> list[dict[str, Any]]:
    """Documents in the form of hits, without a score."""
    listed = []
    for rank, found in enumerate(documents, start=offset + 1):
        beginning = " ".join(found.text[: 2 * _SNIPPET].split())
        cut = beginning if len(beginning) <= _SNIPPET else beginning[:_SNIPPET].rsplit(" ", 1)[0] + " ..."
        listed.append(
            {"rank": rank, "id": found.id, "score": None, "title": found.title, "snippet": cut, "marks": [],
             "span": None, "metadata": found.metadata}
        )  # fmt: skip
    return listed
