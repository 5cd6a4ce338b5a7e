"""The nearest documents of a document, by the vectors that the index holds: no encoder is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm2comp_indexes import ParsedQuery
from llm2comp_indexes.lexical import DEFAULT_LANGUAGE

from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.hits import Ranked, SearchHit, to_hits
from llm2comp_apps.retrieval.query_text import check_count, check_text

if TYPE_CHECKING:
    from llm2comp_indexes import Index

__all__ = ["similar_documents"]

#: Chunks of the document that are looked up at once; bounds memory for documents of any length.
_BLOCK = 256


def similar_documents(index: Index, document_id: str, *, k: int = 10, where: str | None = None) -> list[SearchHit]:
    """The nearest documents of a document, itself left out.

    Of two chunked documents the nearest pair of chunks counts. The span of a hit is its chunk of that pair.

    Args:
        index: an open index.
        document_id: of a document in it.
        k: hits wanted; fewer come back only if fewer documents match.
        where: keep only documents whose metadata meet this condition.

    Raises:
        UsageError: the index has no such document, or ``k`` is no whole number from 1.
        FilterError: ``where`` cannot be read.
    """
    check_count(k, "k")
    check_text(document_id, "id")
    with index.pinned() as pinned:  # other threads may commit meanwhile
        return _similar(pinned, document_id, k, where)


def _similar(index: Index, document_id: str, k: int, where: str | None) -> list[SearchHit]:
    try:
        vectors = index.vectors([document_id])
    except KeyError as error:
        raise UsageError(f"{document_id!r} is not the id of a document in {index.path}", field="id") from error
    best: dict[str, Ranked] = {}
    for start in range(0, len(vectors), _BLOCK):
        for hits in index.search(vectors[start : start + _BLOCK], k + 1, where=where):
            for hit in hits:
                if hit.id != document_id and (hit.id not in best or hit.score > best[hit.id].score):
                    best[hit.id] = Ranked(hit.id, hit.score, hit.span)
    ranking = sorted(best.values(), key=lambda ranked: (-ranked.score, ranked.id))[:k]
    documents = index.get([ranked.id for ranked in ranking])
    return to_hits(ParsedQuery(""), ranking, documents, index.settings.get("language", DEFAULT_LANGUAGE))
