"""What a front asks of a shard and what the shard answers, as JSON.

An :class:`Exchange` is one method of an index: its arguments as the body of a request, the answer that a shard gives to
such a body, and that answer read again. The three stand side by side, so that they fit. Arrays go as base64 of their
little-endian float32, and numbers as JSON has them, so that nothing is rounded on the way.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from llm2comp_indexes import (
    Clause,
    FieldSummary,
    Hit,
    Index,
    IndexedDocument,
    LexicalStatistics,
    Listing,
)

from llm2comp_apps.serving.errors import ApiError
from llm2comp_apps.serving.schemas import Fields
from llm2comp_apps.serving.settings import Limits

__all__ = ["EXCHANGES", "MOVED", "PROTOCOL", "Exchange", "about", "id_sample", "moved"]

MOVED = "shard_moved"
"""Code of the error by which a shard says that what it was asked belongs to an older commit."""
PROTOCOL = 1
"""Grows when a front and a shard of different versions do not understand each other any more."""
_PAGES = 11  # a page of hits lies within so many times the largest page
_SAMPLE = 1_000
_MOST_VALUES = 2_000  # of a field
_VECTORS = 256  # that are compared at once
_MANY = 1 << 60
_LONGER = 10_000  # times longer the documents of other shards may be
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Exchange:
    """How one method of an index goes over a network.

    Attributes:
        ask: makes a body of the arguments; called by the front.
        answer: answers the fields of such a body; called by the shard.
        read: reads the answer; called by the front.
    """

    ask: Callable[..., dict[str, Any]]
    answer: Callable[[Index, Fields, Limits], Any]
    read: Callable[[Any], Any]


def moved() -> ApiError:
    """The answer to a question about what a shard has no more, or has now: ask again from the start."""
    return ApiError(409, "the shard has moved on to another commit", code=MOVED, retry_after=1)


def about(index: Index) -> dict[str, Any]:
    """What a front must know of a shard."""
    return {
        "protocol": PROTOCOL,
        "dimension": index.dimension,
        "memory_tokens": index.memory_tokens,
        "encoder": index.encoder,
        "settings": index.settings,
    }


def id_sample(index: Index) -> list[str]:
    """Ids with the smallest hashes: two indexes that share many ids share some of these, small ones each of them."""
    return heapq.nsmallest(_SAMPLE, index.ids(), key=lambda id_: hashlib.blake2b(id_.encode(), digest_size=8).digest())


def _ask_search(
    vectors: npt.ArrayLike,
    k: int,
    *,
    where: str | None = None,
    exact: bool = False,
    clauses: Sequence[Clause] = (),
) -> dict[str, Any]:
    rows = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    return {"vectors": _packed(rows), "k": k, "where": where, "exact": exact, "clauses": list(clauses)}


def _answer_search(index: Index, fields: Fields, limits: Limits) -> Any:
    vectors = _vectors(fields, index.dimension)
    found = index.search(
        vectors,
        _k(fields, limits),
        where=fields.condition("where", limits),
        exact=fields.flag("exact"),
        clauses=_clauses(fields),
    )
    return [list(map(tuple, hits)) for hits in found]


def _read_search(answer: Any) -> list[list[Hit]]:
    return [_hits(hits) for hits in answer]


def _ask_words(
    query: str,
    k: int,
    *,
    where: str | None = None,
    clauses: Sequence[Clause] = (),
    statistics: LexicalStatistics | None = None,
) -> dict[str, Any]:
    return {"q": query, "k": k, "where": where, "clauses": list(clauses), "statistics": statistics}


def _answer_words(index: Index, fields: Fields, limits: Limits) -> Any:
    found = index.search_lexical(
        _query(fields, limits),
        _k(fields, limits),
        where=fields.condition("where", limits),
        clauses=_clauses(fields),
        statistics=_statistics(fields, index),
    )
    return list(map(tuple, found))


def _answer_statistics(index: Index, fields: Fields, limits: Limits) -> Any:
    return index.lexical_statistics(_query(fields, limits))


def _answer_documents(index: Index, fields: Fields, limits: Limits) -> Any:
    return index.get(_ids(fields, limits))


def _read_documents(answer: Any) -> list[IndexedDocument]:
    return [IndexedDocument(**{**each, "spans": tuple(map(tuple, each["spans"]))}) for each in answer]


def _answer_vectors(index: Index, fields: Fields, limits: Limits) -> Any:
    return _packed(index.vectors(_ids(fields, limits)))


def _ask_memory(ids: Sequence[str], spans: Sequence[tuple[int, int] | None]) -> dict[str, Any]:
    return {"ids": list(ids), "spans": list(spans)}


def _answer_memory(index: Index, fields: Fields, limits: Limits) -> Any:
    ids, spans = _ids(fields, limits), fields.get("spans")
    if (
        not isinstance(spans, list)
        or len(spans) != len(ids)
        or not all(each is None or _is_span(each) for each in spans)
    ):
        raise fields.wrong("spans", "must be two numbers or null for each id")
    return _packed(index.memory(ids, [None if each is None else (each[0], each[1]) for each in spans]))


def _answer_hashes(index: Index, fields: Fields, limits: Limits) -> Any:
    return index.hashes(_ids(fields, limits))


def _answer_values(index: Index, fields: Fields, limits: Limits) -> Any:
    return index.value_counts(fields.required("field"), _ids(fields, limits))[:_MOST_VALUES]


def _read_values(answer: Any) -> Any:
    return tuple((value, often) for value, often in answer)


def _ask_listing(*, where: str | None, limit: int, fields: Sequence[str]) -> dict[str, Any]:
    return {"where": where, "limit": limit, "fields": list(fields)}


def _answer_listing(index: Index, fields: Fields, limits: Limits) -> Any:
    found = index.listing(
        where=fields.condition("where", limits),
        limit=fields.integer("limit", 10, least=0, most=_PAGES * limits.k),
        fields=fields.strings("fields", most=limits.facets),
    )
    return found.total, found.ids, {name: values[:_MOST_VALUES] for name, values in found.counts.items()}


def _read_listing(answer: Any) -> Listing:
    total, ids, counts = answer
    return Listing(total, ids, {name: _read_values(values) for name, values in counts.items()})


def _answer_fields(index: Index, fields: Fields, limits: Limits) -> Any:
    del fields, limits
    return [replace(each, values=each.values[:_MOST_VALUES]) for each in index.fields()]


def _read_fields(answer: Any) -> list[FieldSummary]:
    return [FieldSummary(**{**each, "values": _read_values(each["values"])}) for each in answer]


def _answer_unknown(index: Index, fields: Fields, limits: Limits) -> Any:
    return index.unknown_fields(fields.condition("where", limits) or "")


def _asks_of_ids(ids: Sequence[str]) -> dict[str, Any]:
    return {"ids": list(ids)}


EXCHANGES: dict[str, Exchange] = {
    "search": Exchange(_ask_search, _answer_search, _read_search),
    "search_lexical": Exchange(_ask_words, _answer_words, lambda answer: _hits(answer)),
    "lexical_statistics": Exchange(
        lambda query: {"q": query}, _answer_statistics, lambda answer: LexicalStatistics(**answer)
    ),
    "get": Exchange(_asks_of_ids, _answer_documents, _read_documents),
    "hashes": Exchange(_asks_of_ids, _answer_hashes, lambda answer: answer),
    "vectors": Exchange(_asks_of_ids, _answer_vectors, lambda answer: _unpacked(answer)),
    "memory": Exchange(_ask_memory, _answer_memory, lambda answer: _unpacked(answer)),
    "value_counts": Exchange(lambda field, ids: {"field": field, "ids": list(ids)}, _answer_values, _read_values),
    "listing": Exchange(_ask_listing, _answer_listing, _read_listing),
    "fields": Exchange(dict, _answer_fields, _read_fields),
    "unknown_fields": Exchange(lambda where: {"where": where}, _answer_unknown, lambda answer: answer),
}
"""The methods of an index that can be asked of a shard, by name."""


def _hits(answer: Any) -> list[Hit]:
    return [Hit(id_, score, None if span is None else (span[0], span[1])) for id_, score, span in answer]


def _packed(array: FloatArray) -> dict[str, Any]:
    return {"shape": list(array.shape), "float32": base64.b64encode(array.astype("<f4").tobytes()).decode()}


def _unpacked(packed: Any) -> FloatArray:
    return np.frombuffer(base64.b64decode(packed["float32"], validate=True), "<f4").reshape(packed["shape"])


def _vectors(fields: Fields, dimension: int) -> FloatArray:
    try:
        found = _unpacked(fields.get("vectors"))
    except (TypeError, KeyError, ValueError, binascii.Error):
        raise fields.wrong("vectors", "must be an array in base64 with its shape") from None
    if found.ndim != 2 or found.shape[1] != dimension or not 0 < len(found) <= _VECTORS:
        raise fields.wrong("vectors", f"must be at most {_VECTORS} rows of {dimension} numbers")
    return found


def _query(fields: Fields, limits: Limits) -> str:
    return fields.text("q", "", limit=limits.query) or ""


def _k(fields: Fields, limits: Limits) -> int:
    return fields.integer("k", 10, least=1, most=_PAGES * limits.k)


def _ids(fields: Fields, limits: Limits) -> list[str]:
    found = fields.get("ids")
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise fields.wrong("ids", "must be a list of strings")
    if len(found) > _PAGES * limits.k:
        raise fields.wrong("ids", f"must be at most {_PAGES * limits.k:,}, not {len(found):,}", "too_many")
    return found


def _clauses(fields: Fields) -> list[Clause]:
    found = fields.get("clauses") or []
    kinds = {"sign": ("must", "must not", "may"), "kind": ("word", "phrase", "prefix")}
    for each in found if isinstance(found, list) else [found]:
        inner = Fields(each if isinstance(each, dict) else {}, fields.status).named("clauses")
        for name, choices in kinds.items():
            inner.required(name)
            inner.choice(name, choices)
        inner.required("text")
        inner.flag("title")
    return [Clause(each["sign"], each["kind"], each["text"], each.get("title", False)) for each in found]


def _statistics(fields: Fields, index: Index) -> LexicalStatistics | None:
    """Those of all shards.

    Raises:
        ApiError: they are not; or they were, until this shard moved on to another commit.
    """
    if "statistics" not in fields:
        return None
    inner = fields.inner("statistics")
    frequencies = inner.get("frequencies")
    if not isinstance(frequencies, dict) or not all(type(each) is int and each >= 0 for each in frequencies.values()):
        raise inner.wrong("frequencies", "must be a number for each word")
    documents = inner.integer("documents", 0, least=0, most=_MANY)
    given = LexicalStatistics(
        documents=documents, tokens=inner.integer("tokens", 0, least=0, most=_MANY), frequencies=frequencies
    )
    ours = index.lexical_statistics(fields.text("q", "") or "")
    if missing := sorted(ours.frequencies.keys() - frequencies.keys()):
        raise inner.wrong("frequencies", f"must have the word {missing[0]!r}")
    if given.average > _LONGER * max(1.0, ours.average) or max(frequencies.values(), default=0) > documents:
        raise inner.wrong("documents", "cannot be: these are no statistics of texts")
    if ours.documents > documents or ours.tokens > given.tokens:
        raise moved()
    return given


def _is_span(value: object) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value))
