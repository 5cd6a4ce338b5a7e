"""Indexes: what there is, search, similar documents, documents, topics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from starlette.responses import Response

from llm2comp_apps import Document, SearchHit
from llm2comp_apps.serving.batching import FloatArray
from llm2comp_apps.serving.call import Call, json_response
from llm2comp_apps.serving.errors import not_found
from llm2comp_apps.serving.generations import ServedIndex
from llm2comp_apps.serving.lanes import encoder_in_lane
from llm2comp_apps.serving.narrowing import narrowed
from llm2comp_apps.serving.schemas import Fields

__all__ = ["distribution", "document", "listed", "partly", "search", "similar", "topics", "warned"]

MODES = ("dense", "lexical", "hybrid")
FUSIONS = ("weighted", "minmax", "rrf", "learned")
RERANKERS = {"memory": "encode_memory", "tokens": "encode_tokens", "ltr": None, "words": None}
"""Rerankers that need nothing but an encoder, and what it must be able to do; ``None`` needs none."""


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
                "topics": served.has_topics,
                "modes": [mode for mode in MODES if mode == "lexical" or served.engine is not None],
                **({} if (shards := served.shard_states()) is None else {"shards": shards}),
            }
        )
    return json_response({"results": results})


async def search(call: Call) -> Response:
    """``POST /indexes/{name}/search``."""
    start = time.perf_counter()
    served, fields, limits = call.state.index(call.path["name"]), call.fields, call.state.settings.limits
    vector = fields.vector("vector", served.collection.index.dimension)
    query = fields.text("q", "", limit=limits.query) or ""
    if vector is None:
        query = fields.required("q")
    mode: Any = fields.choice("mode", MODES, _usual_mode(served, query, vector))
    if vector is not None and mode == "lexical":
        raise fields.wrong("vector", "has no effect where mode is lexical, which compares words alone")
    rerank = _reranker(fields, served)
    settings: dict[str, Any] = {
        "k": fields.integer("limit", 10, least=1, most=limits.k),
        "offset": fields.integer("offset", 0, least=0, most=10 * limits.k),
        "mode": mode,
        "fusion": fields.choice("fusion", FUSIONS, "weighted"),
        "where": await narrowed(call, served),
        "facets": fields.strings("facets", most=limits.facets),
        "passages": fields.flag("passages"),
        "rerank_ms": fields.optional_integer("rerank_ms", least=1, most=limits.rerank_ms),
    }
    if rerank is not None and settings["k"] + settings["offset"] > limits.reranked:
        raise fields.wrong("limit", f"and offset must be at most {limits.reranked} together where hits are reranked")
    whole, all_ids = fields.flag("text") or settings["passages"], fields.flag("ids")
    truncated = False
    if mode != "lexical" and vector is None:
        vector, truncated = await _encoded(call, served, query)

    def work() -> Any:  # in a thread: a reranker may wait for the encoder before the first query
        searcher = served.collection.searcher("lexical" if vector is not None else mode, rerank)
        return searcher.page(query, vector=vector, **settings)

    page, missing = await call.state.in_thread(partial(served.answered, work), pool="rerank" if rerank else "search")
    return json_response(
        {
            "hits": [_shown(hit, whole=whole) for hit in page.hits],
            "query": query,
            "mode": mode,
            "limit": settings["k"],
            "offset": settings["offset"],
            "estimatedTotalHits": page.total,
            "facetDistribution": distribution(page.facets),
            "processingTimeMs": round((time.perf_counter() - start) * 1000, 1),
            **({"ids": page.ids} if all_ids else {}),
            **({"queryTruncated": True} if truncated else {}),
            **await warned(call, served, missing),
            **partly(missing),
        }
    )


def _reranker(fields: Fields, served: ServedIndex) -> str | None:
    """Which reranker is asked for, by name; one that this server's encoder can do."""
    name = fields.choice("rerank", tuple(RERANKERS))
    if name is None:
        if "rerank_ms" in fields:
            raise fields.wrong("rerank_ms", "has no effect without rerank")
        return None
    if (ability := RERANKERS[name]) is None:
        return name
    if served.engine is None:
        raise fields.wrong("rerank", "needs an encoder, and this server has none for this index")
    if not hasattr(served.engine.encoder, ability):
        raise fields.wrong("rerank", f"cannot be {name}: the encoder {served.engine.name} shows no {name}")
    return name


def _usual_mode(served: ServedIndex, query: str, vector: Any) -> str:
    """What is searched by where nothing is said: by all that is given."""
    if served.engine is None and vector is None:
        return "lexical"
    return "hybrid" if query else "dense"


async def _encoded(call: Call, served: ServedIndex, query: str) -> tuple[FloatArray, bool]:
    """The vector of a query, and whether only its beginning was read."""
    if served.engine is None:
        raise call.fields.wrong("mode", "must be lexical: this server has no encoder for this index")
    encoder = encoder_in_lane(served.engine, "query")
    prompt = encoder.prompts.get("query")
    tokenized = served.engine.counter.count([query], prompt)
    vectors = await call.result(encoder.submit([query], tokenized, prompt=prompt))
    return vectors[0], bool(tokenized.truncated)


def _shown(hit: SearchHit, *, whole: bool) -> dict[str, Any]:
    """A hit as plain data; its text only where it is asked for."""
    plain = hit.to_dict()
    if not whole:
        del plain["text"]
    return plain


def distribution(facets: Mapping[str, Iterable[tuple[str | float, int]]]) -> dict[str, dict[str, int]]:
    """How many hits have each value of each field; values that are spelled alike, as 2020 and "2020", are one."""
    found = {}
    for name, values in facets.items():
        counts: Counter[str] = Counter()
        for value, often in values:
            counts[str(value).lower() if isinstance(value, bool) else str(value)] += often
        found[name] = dict(counts.most_common())
    return found


async def similar(call: Call) -> Response:
    """``POST /indexes/{name}/similar``."""
    served, fields, limits = call.state.index(call.path["name"]), call.fields, call.state.settings.limits
    where = await narrowed(call, served)
    k = fields.integer("limit", 10, least=1, most=limits.k)
    whole = fields.flag("text")
    work = partial(served.collection.similar, fields.required("id"), k=k, where=where)
    hits, missing = await call.in_thread(served.answered, work)
    shown = [_shown(hit, whole=whole) for hit in hits]
    return json_response({"hits": shown, **await warned(call, served, missing), **partly(missing)})


async def document(call: Call) -> Response:
    """``GET /indexes/{name}/documents/{id}``, or ``/documents?id=``: clients resolve ``.`` and ``..`` in a path."""
    served = call.state.index(call.path["name"])
    wanted = call.path["id"] if "id" in call.path else call.fields.required("id")
    try:
        work = partial(served.collection.index.get, [wanted])
        ((found,), _) = await call.in_thread(served.answered, work)
    except KeyError:
        raise not_found(f"there is no document {wanted[:200]!r}", code="document_not_found", param="id") from None
    return json_response(_plain(found))


async def warned(call: Call, served: ServedIndex, missing: list[str]) -> dict[str, Any]:
    """What an answer says of a condition that was most likely not meant so; nothing if there is nothing to say.

    A shard that is missing may have the field, and is not waited for twice.
    """
    where = call.fields.condition("where", call.state.settings.limits)
    lines = [] if where is None or missing else await call.in_thread(served.doubts, where)
    return {"warnings": lines} if lines else {}


def partly(missing: list[str]) -> dict[str, Any]:
    """What an answer says of shards that it lacks; nothing if it is whole."""
    return {"partial": True, "missingShards": missing} if missing else {}


async def topics(call: Call) -> Response:
    """``GET /indexes/{name}/topics``."""
    served = call.state.index(call.path["name"])
    model = await call.in_thread(lambda: served.topics)
    ids = [each.id for each in model.documents]
    return json_response({"topics": [topic.record(ids) for topic in model.hierarchy]})


def _plain(found: Document | Any) -> dict[str, Any]:
    return {"id": found.id, "title": found.title, "text": found.text, "metadata": found.metadata}
