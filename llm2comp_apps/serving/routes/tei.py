"""What clients of Text Embeddings Inference ask for."""

from __future__ import annotations

import time
from typing import Any

from starlette.responses import Response

from llm2comp_apps import __version__
from llm2comp_apps.serving.batching import Engine
from llm2comp_apps.serving.call import Call, json_response
from llm2comp_apps.serving.routes.embeddings import encode_texts, prompt_of, written
from llm2comp_apps.serving.schemas import shortened
from llm2comp_apps.serving.tokens import Tokenized

__all__ = ["embed", "embed_all", "info", "similarity", "tokenize"]


async def info(call: Call) -> Response:
    """``GET /info``."""
    engine = call.state.engine(None)
    encoder, limits = engine.encoder, call.state.settings.limits
    return json_response(
        {
            "model_id": engine.name,
            "model_sha": encoder.fingerprint,
            "model_dtype": getattr(encoder, "precision", "float32"),
            "served_model_name": engine.name,
            "model_type": {"embedding": {"pooling": getattr(encoder, "pooling", "mean")}},
            "max_concurrent_requests": limits.requests,
            "max_input_length": engine.counter.max_length,
            "max_batch_tokens": engine.budget,
            "max_batch_requests": None,
            "max_client_batch_size": limits.inputs,
            "auto_truncate": True,
            "tokenization_workers": 1,
            "version": __version__,
        }
    )


async def embed(call: Call) -> Response:
    """``POST /embed``: embeddings."""
    start = time.perf_counter()
    engine, texts, prompt = _asked(call, call.state.settings.limits.inputs)
    dimensions = call.fields.optional_integer("dimensions", least=1, most=engine.encoder.dimension)
    vectors, tokenized = await encode_texts(call, engine, texts, prompt)
    _check_whole(call, tokenized)
    headers = _headers(texts, tokenized, start)
    return await written(call, vectors, lambda: json_response(list(shortened(vectors, dimensions)), headers=headers))


async def embed_all(call: Call) -> Response:
    """``POST /embed_all``: the memory vectors of each text."""
    start = time.perf_counter()
    engine, texts, prompt = _asked(call, call.state.settings.limits.memory_inputs)
    if not hasattr(engine.encoder, "encode_memory"):
        raise call.fields.wrong("inputs", f"have one vector each: the encoder {engine.name} has no memory vectors")
    memory, tokenized = await encode_texts(call, engine, texts, prompt, form="memory")
    _check_whole(call, tokenized)
    headers = _headers(texts, tokenized, start)
    return await written(call, memory, lambda: json_response(list(memory), headers=headers))


async def similarity(call: Call) -> Response:
    """``POST /similarity``: cosines of one sentence with others."""
    start = time.perf_counter()
    inputs = call.fields.inner("inputs")
    source = inputs.required("source_sentence")
    sentences = inputs.texts("sentences", call.state.settings.limits, single=False)
    engine = call.state.engine(None)
    vectors, tokenized = await encode_texts(call, engine, [source, *sentences], None)
    return json_response(vectors[1:] @ vectors[0], headers=_headers(sentences, tokenized, start))


async def tokenize(call: Call) -> Response:
    """``POST /tokenize``: the tokens that the encoder's tokenizer makes of texts."""
    texts = call.fields.texts("inputs", call.state.settings.limits, blank=True)
    engine = call.state.engine(None)
    special = call.fields.flag("add_special_tokens", True)
    _ = engine.encoder
    found = await call.in_thread(engine.counter.tokens, texts, special=special)
    if found is None:
        raise call.fields.wrong("inputs", f"cannot be cut: the encoder {engine.name} shows no tokenizer")
    return json_response(found)


def _asked(call: Call, most: int) -> tuple[Engine, list[str], str | None]:
    """What is asked of whom: the fields that embeddings and memory vectors share."""
    fields, limits = call.fields, call.state.settings.limits
    texts = fields.texts("inputs", limits, most=most)
    fields.choice("truncation_direction", ("right", "Right"), "right")
    fields.choice("encoding_format", ("float",), "float")
    if not fields.flag("normalize", True):
        raise fields.wrong("normalize", "must be true: embeddings have length 1")
    engine = call.state.engine(None)
    return engine, texts, prompt_of(call, engine)


def _check_whole(call: Call, tokenized: Tokenized) -> None:
    """Refuse texts that were cut where the client says that none may be."""
    allowed = call.fields.flag("truncate", True)
    if tokenized.truncated and not allowed:
        raise call.fields.wrong("inputs", f"are too long at {', '.join(map(str, tokenized.truncated))}", "too_long")


def _headers(texts: list[str], tokenized: Tokenized, start: float) -> dict[str, str]:
    headers: dict[str, Any] = {
        "x-compute-type": "cpu",
        "x-compute-time": int((time.perf_counter() - start) * 1000),
        "x-compute-characters": sum(map(len, texts)),
        "x-compute-tokens": tokenized.total,
    }
    if tokenized.truncated:
        headers["x-truncated"] = ",".join(map(str, tokenized.truncated[:100]))
    return {name: str(value) for name, value in headers.items()}
