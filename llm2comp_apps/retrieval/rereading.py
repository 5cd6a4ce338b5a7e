"""What a reranker reads of each hit: the piece that was found, or the one that is likeliest to be why it was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.hits import Ranked
from llm2comp_apps.retrieval.rerank import (
    ComparesAll,
    FirstSearch,
    MemoryReranker,
    Passage,
    ReadsFirst,
    ReadsStored,
    Reranker,
)
from llm2comp_apps.retrieval.rerank.ltr import ONLY_HYBRID
from llm2comp_apps.retrieval.rerank.paced import score_in_time
from llm2comp_apps.retrieval.snippets import matching_words

if TYPE_CHECKING:
    from llm2comp_indexes import Index, IndexedDocument

    from llm2comp_apps.retrieval.options import SearchOptions

__all__ = ["Asked", "check_reranking", "likeliest_span", "read_again", "reads_first"]


class Asked(NamedTuple):
    """A query as rerankers need it.

    Attributes:
        text: what was asked.
        memory: its memory vectors ``(k, d)``, where they are made already.
        vector: ``(d,)``, by which a hybrid search found the hits; ``None`` if none did.
    """

    text: str
    memory: FloatArray | None = None
    vector: FloatArray | None = None


def read_again(
    reranker: Reranker,
    asked: Asked,
    found: Sequence[tuple[Ranked, IndexedDocument]],
    index: Index,
    *,
    milliseconds: float | None,
    language: str,
) -> list[list[Ranked]]:
    """Score the best hits by what is read of them.

    A document that was found by its words has no span. If it has chunks, one that reads texts is given the chunk that
    holds most of these words, since only the beginning of a long text would be read. One that compares stored vectors
    is given all of them.

    Args:
        reranker: scores for this query.
        asked: the query.
        found: hits, best first, with their documents.
        index: holds them.
        milliseconds: see :func:`.score_in_time`.
        language: of the index's words.

    Returns:
        For each hit that was read, its pieces with the scores of the reranker.
    """
    compares = isinstance(reranker, ReadsStored) and reranker.has_stored
    pieces = [_pieces(*pair, asked.text, language, every=compares) for pair in found]
    documents = [document for _, document in found]
    score = partial(reranker.score, asked.text)
    if isinstance(reranker, MemoryReranker):
        score = partial(reranker.score, asked.text, asked=asked.memory)
    elif isinstance(reranker, ReadsFirst) and asked.vector is not None and found:
        first = _first_search([piece for (piece,) in pieces], documents, asked.vector, index)
        score = partial(reranker.score, asked.text, first=first)
    passages = [[_passage(piece, document) for piece in each] for each, document in zip(pieces, documents, strict=True)]
    scores = score_in_time(score, passages, milliseconds, at_once=isinstance(reranker, ComparesAll))
    return [
        [replace(piece, score=value) for piece, value in zip(each, values.tolist(), strict=True)]
        for each, values in zip(pieces, scores, strict=False)
    ]


def check_reranking(reranker: Reranker | None, options: SearchOptions) -> None:
    """Refuse what is said about reranking where nothing is.

    Raises:
        UsageError: names the setting.
    """
    for name in ("rerank_depth", "rerank_ms"):
        if reranker is None and getattr(options, name) is not None:
            raise UsageError("has no effect: nothing is scored again without `rerank`", field=name)


def reads_first(reranker: Reranker | None, mode: str = "hybrid") -> bool:
    """Whether a reranker reads what the first search knows.

    Raises:
        UsageError: it does, and that is no hybrid search.
    """
    if not isinstance(reranker, ReadsFirst):
        return False
    if mode != "hybrid":
        raise UsageError(ONLY_HYBRID, field="rerank")
    return True


def likeliest_span(document: IndexedDocument, query: str, language: str) -> tuple[int, int]:
    """The chunk of a document with most of the query's words, each counted once; of equal ones the first.

    Args:
        document: with spans.
        query: what was asked.
        language: of the index's words.
    """
    matches = matching_words(document.text, query, language)

    def words_of(span: tuple[int, int]) -> int:
        return len({term for start, end, term in matches if span[0] <= start and end <= span[1]})

    return max(document.spans, key=words_of)


def _pieces(hit: Ranked, document: IndexedDocument, query: str, language: str, *, every: bool) -> list[Ranked]:
    if hit.span is not None or not document.spans:
        return [hit]
    spans = document.spans if every else [likeliest_span(document, query, language)]
    return [replace(hit, span=span) for span in spans]


def _first_search(
    pieces: Sequence[Ranked], documents: Sequence[IndexedDocument], vector: FloatArray, index: Index
) -> FirstSearch:
    """What is known of hits, each by the piece of it that is read."""
    held = {document.id: document for document in documents}
    starts = dict(zip(held, np.cumsum([0, *(each.rows for each in held.values())]), strict=False))
    rows = [
        starts[piece.id] + (held[piece.id].spans.index(piece.span) if piece.span in held[piece.id].spans else 0)
        for piece in pieces
    ]
    vectors = index.vectors(list(held))[rows]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    lexical = [0.0 if piece.parts is None else piece.parts.bm25 or 0.0 for piece in pieces]
    return FirstSearch(
        scores=np.array([piece.score for piece in pieces], dtype=np.float32),
        cosines=vectors @ (vector / np.maximum(np.linalg.norm(vector), 1e-12)),
        bm25=np.array(lexical, dtype=np.float32),
        vectors=vectors,
    )


def _passage(hit: Ranked, document: IndexedDocument) -> Passage:
    text = document.text[slice(*hit.span)] if hit.span else document.text
    return Passage(document.id, document.title, text, hit.span)
