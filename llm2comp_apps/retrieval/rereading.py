"""What a reranker reads of each hit: the piece that was found, or the one that is likeliest to be why it was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.retrieval.hits import Ranked
from llm2comp_apps.retrieval.rerank import ComparesAll, Passage, ReadsStored, Reranker
from llm2comp_apps.retrieval.rerank.paced import score_in_time
from llm2comp_apps.retrieval.snippets import matching_words

if TYPE_CHECKING:
    from llm2comp_indexes import IndexedDocument

__all__ = ["Score", "likeliest_span", "read_again"]

Score: TypeAlias = Callable[[Sequence[Passage]], FloatArray]
"""Scores passages for one query: :meth:`.Reranker.score`."""


def read_again(
    reranker: Reranker,
    score: Score,
    query: str,
    found: Sequence[tuple[Ranked, IndexedDocument]],
    *,
    milliseconds: float | None,
    language: str,
) -> list[list[Ranked]]:
    """Score the best hits by what is read of them.

    A document that was found by its words has no span. If it has chunks, one that reads texts is given the chunk that
    holds most of these words, since only the beginning of a long text would be read. One that compares stored vectors
    is given all of them.

    Args:
        reranker: whose score it is.
        score: for this query.
        query: what was asked.
        found: hits, best first, with their documents.
        milliseconds: see :func:`.score_in_time`.
        language: of the index's words.

    Returns:
        For each hit that was read, its pieces with the scores of the reranker.
    """
    compares = isinstance(reranker, ReadsStored) and reranker.has_stored
    pieces = [_pieces(*pair, query, language, every=compares) for pair in found]
    documents = [document for _, document in found]
    passages = [[_passage(piece, document) for piece in each] for each, document in zip(pieces, documents, strict=True)]
    scores = score_in_time(score, passages, milliseconds, at_once=isinstance(reranker, ComparesAll))
    return [
        [replace(piece, score=value) for piece, value in zip(each, values.tolist(), strict=True)]
        for each, values in zip(pieces, scores, strict=False)
    ]


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


def _passage(hit: Ranked, document: IndexedDocument) -> Passage:
    text = document.text[slice(*hit.span)] if hit.span else document.text
    return Passage(document.id, document.title, text, hit.span)
