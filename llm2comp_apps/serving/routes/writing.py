"""Adding and deleting documents, where the server may write."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from llm2comp_apps import Document
from llm2comp_apps.serving.call import Call, json_response
from llm2comp_apps.serving.errors import ApiError, not_found
from llm2comp_apps.serving.generations import ServedIndex
from llm2comp_apps.serving.schemas import Fields

__all__ = ["add", "delete", "delete_one"]

_ID_CHARACTERS = 1_000
_FIELDS = ("id", "text", "title", "metadata")


async def add(call: Call) -> Response:
    """``POST /indexes/{name}/documents``: add documents, or replace those with the same ids."""
    served = _writable(call)
    documents = _documents(call)
    if served.engine is None:
        reason = "nobody knows the encoder of this index, so nothing can be added"
        if not call.state.settings.load_encoders:
            reason = "this server was started without encoders and can add nothing; `llm2comp index add` can"
        raise ApiError(409, reason, code="no_encoder")
    _ = served.engine.encoder

    def work() -> dict[str, Any]:
        with served.writing, served.opened_for_writing() as library:
            report = library.update(documents)
        served.refresh()
        return {
            "added": report.added,
            "unchanged": report.unchanged,
            "vectors": report.vectors,
            "truncated": report.truncated,
            "warnings": report.warnings,
        }

    return json_response(await call.state.in_thread(work, pool="write"))


async def delete(call: Call) -> Response:
    """``POST /indexes/{name}/documents/delete``: delete documents by id or by a condition."""
    served, fields, limits = _writable(call), call.fields, call.state.settings.limits
    ids = fields.texts("ids", limits, single=False) if "ids" in fields else None
    where = fields.condition("where", limits)
    if not ids and where is None:
        raise fields.wrong("ids", "or a where condition must be given", "missing")
    return json_response(await _deleted(call, served, ids, where, allow_most=fields.flag("allow_most")))


async def delete_one(call: Call) -> Response:
    """``DELETE /indexes/{name}/documents/{id}``."""
    wanted = call.path["id"]
    report = await _deleted(call, _writable(call), [wanted], None)
    if not report["deleted"]:
        raise not_found(f"there is no document {wanted[:200]!r}", code="document_not_found", param="id")
    return json_response(report)


async def _deleted(
    call: Call, served: ServedIndex, ids: list[str] | None, where: str | None, *, allow_most: bool = False
) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        with served.writing:
            report = served.collection.delete(ids, where=where, allow_most=allow_most)
        return {"deleted": report.deleted, "missing": report.missing, "warnings": report.warnings}

    return await call.state.in_thread(work, pool="write")


def _writable(call: Call) -> ServedIndex:
    served = call.state.index(call.path["name"])
    served.check_writable()
    if not call.state.settings.write:
        raise ApiError(403, "this server only reads; start it with `write` to change indexes", code="read_only")
    return served


def _documents(call: Call) -> list[Document]:
    found = call.fields.get("documents")
    if not isinstance(found, list) or not found:
        raise call.fields.wrong("documents", "must be a list of documents")
    most = call.state.settings.limits.inputs
    if len(found) > most:
        raise call.fields.wrong("documents", f"must be at most {most:,}, not {len(found):,}", "too_many")
    documents = [_document(call, value, place) for place, value in enumerate(found)]
    if len({document.id for document in documents}) < len(documents):
        raise call.fields.wrong("documents", "must not have an id twice", "duplicate_id")
    return documents


def _document(call: Call, value: Any, place: int) -> Document:
    at = f"documents[{place}]"
    if not isinstance(value, dict):
        raise call.fields.wrong(at, "must be an object")
    unknown = sorted(map(str, value.keys() - set(_FIELDS)))
    if unknown:
        reason = f"has {unknown[0][:50]!r}; fields of your own belong into metadata"
        raise call.fields.wrong(at, reason, "unknown_field")
    fields = Fields(value, call.fields.status)
    limit = call.state.settings.limits.characters
    metadata = value.get("metadata")
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict):
        raise fields.wrong(f"{at}.metadata", "must be an object")
    document = Document(
        fields.named(at).required("id", limit=_ID_CHARACTERS),
        fields.named(at).text("text", "", limit=limit) or "",
        fields.named(at).text("title", "", limit=limit) or "",
        metadata,
    )
    if not document.content.strip():
        raise fields.wrong(f"{at}.text", "is empty", "empty")
    return document
