"""Reranking in the forms of Cohere, Jina and Text Embeddings Inference: one handler, the fields say which."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import numpy as np
from starlette.responses import Response

from llm2comp_apps import memory_scores
from llm2comp_apps.serving.batching import Engine, FloatArray, Form
from llm2comp_apps.serving.call import Call, error_response, json_response
from llm2comp_apps.serving.routes.embeddings import encode_texts

__all__ = ["rerank"]


async def rerank(call: Call) -> Response:
    """``POST /v1/rerank``, ``/v2/rerank`` and ``/rerank``."""
    if "texts" not in call.fields:
        return await _cohere(call)
    call.fields.status = 422
    try:
        return await _tei(call)
    except Exception as error:  # noqa: BLE001 - told in the form that the client knows
        return error_response(error, "tei")


async def _cohere(call: Call) -> Response:
    fields, limits = call.fields, call.state.settings.limits
    query = fields.required("query", limit=limits.characters)
    documents = fields.documents("documents", limits)
    top = fields.integer("top_n", 0, least=0, most=limits.inputs) or len(documents)
    engine = call.state.engine(fields.text("model"))
    echo = fields.flag("return_documents")
    scores, tokens, truncated = await _scores(call, engine, query, documents)
    results: list[dict[str, Any]] = []
    for index in _best(scores)[:top]:
        results.append({"index": index, "relevance_score": _share(scores[index])})
        if echo:
            results[-1]["document"] = {"text": documents[index]}
    meta: dict[str, Any] = {
        "api_version": {"version": "1" if "/v1/" in call.request.url.path else "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": tokens, "output_tokens": 0},
    }
    if truncated:
        meta["warnings"] = [f"only the beginning was read of the documents {', '.join(map(str, truncated))}"]
    if "max_tokens_per_doc" in fields:
        read = engine.counter.max_length
        meta.setdefault("warnings", []).append(f"max_tokens_per_doc is not taken; the encoder reads {read} tokens")
    return json_response(
        {
            "id": str(uuid.uuid4()),
            "model": engine.name,
            "results": results,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "meta": meta,
        }
    )


async def _tei(call: Call) -> Response:
    fields, limits = call.fields, call.state.settings.limits
    query = fields.required("query", limit=limits.characters)
    texts = fields.texts("texts", limits, single=False, most=limits.memory_inputs)
    raw, echo = fields.flag("raw_scores"), fields.flag("return_text")
    scores, _, _ = await _scores(call, call.state.engine(None), query, texts)
    results: list[dict[str, Any]] = []
    for index in _best(scores):
        results.append({"index": index, "score": float(scores[index]) if raw else _share(scores[index])})
        if echo:
            results[-1]["text"] = texts[index]
    return json_response(results)


async def _scores(call: Call, engine: Engine, query: str, texts: list[str]) -> tuple[FloatArray, int, list[int]]:
    """The score of each text, in [-1, 1]; the tokens that were read; and which texts were cut."""
    prompts: dict[str, str] = engine.encoder.prompts
    memory = hasattr(engine.encoder, "encode_memory")
    form: Form = "memory" if memory else "embedding"
    (asked, first), (found, second) = await asyncio.gather(
        encode_texts(call, engine, [query], prompts.get("query"), form=form),
        encode_texts(call, engine, texts, prompts.get("document"), form=form),
    )
    pooling = engine.encoder.pooling if memory else ""
    scores: FloatArray = await call.in_thread(memory_scores, asked[0], found, pooling) if memory else found @ asked[0]
    return scores, first.total + second.total, second.truncated


def _best(scores: FloatArray) -> list[int]:
    order: list[int] = np.argsort(-scores, kind="stable").tolist()
    return order


def _share(score: float) -> float:
    """A score in [-1, 1] as one in [0, 1], which is what these clients expect."""
    return min(1.0, max(0.0, (1 + float(score)) / 2))
