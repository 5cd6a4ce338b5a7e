"""OpenAI's embeddings and models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from llm2comp_apps.serving.batching import Engine, FloatArray, Form
from llm2comp_apps.serving.call import Call, json_response
from llm2comp_apps.serving.lanes import encoder_in_lane
from llm2comp_apps.serving.schemas import encoded_vectors, shortened
from llm2comp_apps.serving.tokens import Tokenized

__all__ = ["embeddings", "encode_texts", "model", "models", "prompt_of", "written"]

_FEW = 4  # texts of a request that somebody may be waiting for: it goes before bulk
_MANY_NUMBERS = 50_000
_SHORT = 4_000  # characters that are counted in the event loop; more go to a thread


async def models(call: Call) -> Response:
    """``GET /v1/models``."""
    return json_response({"object": "list", "data": [_described(call, each) for each in call.state.engines.values()]})


async def model(call: Call) -> Response:
    """``GET /v1/models/{id}``."""
    return json_response(_described(call, call.state.engine(call.path["id"])))


def _described(call: Call, engine: Engine) -> dict[str, Any]:
    return {"id": engine.name, "object": "model", "created": int(call.state.started), "owned_by": "llm2comp"}


async def embeddings(call: Call) -> Response:
    """``POST /v1/embeddings``."""
    fields = call.fields
    texts = fields.texts("input", call.state.settings.limits)
    encoding = fields.choice("encoding_format", ("float", "base64"), "float") or "float"
    engine = call.state.engine(fields.text("model"))
    prompt = prompt_of(call, engine)
    dimensions = fields.optional_integer("dimensions", least=1, most=engine.encoder.dimension)
    vectors, tokenized = await encode_texts(call, engine, texts, prompt)

    def answer() -> Response:
        rows = encoded_vectors(shortened(vectors, dimensions), encoding)
        found = {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
            "model": engine.name,
            "usage": {"prompt_tokens": tokenized.total, "total_tokens": tokenized.total},
        }
        return json_response({**found, "truncated": tokenized.truncated} if tokenized.truncated else found)

    return await written(call, vectors, answer)


async def written(call: Call, vectors: FloatArray, answer: Callable[[], Response]) -> Response:
    """Write an answer that holds vectors; many of them in a thread, so that other requests need not wait."""
    return await call.in_thread(answer) if vectors.size > _MANY_NUMBERS else answer()


def prompt_of(call: Call, engine: Engine) -> str | None:
    """The encoder's prompt of the role that ``prompt_name`` (or ``input_type``) names."""
    prompts: dict[str, str] = engine.encoder.prompts
    role = call.fields.text("prompt_name") or call.fields.text("input_type")
    if role is None:
        return None
    role = role.removeprefix("search_")
    roles = dict.fromkeys([*prompts, "query", "document"])  # these two also where an encoder has no prompt for them
    if role not in {*roles, "passage"}:
        raise call.fields.wrong("prompt_name", f"must be one of {', '.join(roles)}, not {role[:50]!r}")
    return prompts.get(role)


async def encode_texts(
    call: Call, engine: Engine, texts: list[str], prompt: str | None, *, form: Form = "embedding"
) -> tuple[FloatArray, Tokenized]:
    """Vectors of texts, made by an engine; a few short texts go before bulk."""
    short = sum(map(len, texts)) <= _SHORT
    encoder = encoder_in_lane(engine, "query" if short and len(texts) <= _FEW else "bulk")
    count = engine.counter.count
    tokenized = count(texts, prompt) if short else await call.in_thread(count, texts, prompt)
    vectors = await call.result(encoder.submit(texts, tokenized, prompt=prompt, form=form))
    return vectors, tokenized
