"""What a front asks of an index that is a shard; see :mod:`llm2comp_apps.serving.shards.wire`."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from llm2comp_apps.serving.call import Call, json_response
from llm2comp_apps.serving.errors import ApiError, not_found
from llm2comp_apps.serving.shards.wire import EXCHANGES, about, id_sample, moved

__all__ = ["shard"]


async def shard(call: Call) -> Response:
    """``POST /indexes/{name}/shard/{question}``."""
    served, question = call.state.index(call.path["name"]), call.path["question"]
    if not served.local:
        raise ApiError(409, f"the index {served.name} lies in shards itself, and can be none", code="sharded")
    expected = call.fields.text("fingerprint")
    if expected is not None and expected != served.encoder_record.get("fingerprint"):
        raise ApiError(409, f"the vectors of {served.name} are of another encoder", code="other_encoder")
    limits = call.state.settings.limits

    def work() -> dict[str, Any]:
        with served.collection.index.pinned() as index:
            answer: Any
            if question == "about":
                answer = about(index)
            elif question == "sample":
                answer = id_sample(index)
            elif question in EXCHANGES:
                answer = EXCHANGES[question].answer(index, call.fields, limits)
            else:
                raise not_found(f"a shard cannot be asked for {question[:50]!r}", param="question")
            return {"generation": index.generation, "documents": len(index), "answer": answer}

    try:
        return json_response(await call.in_thread(work))
    except KeyError:
        raise moved() from None
