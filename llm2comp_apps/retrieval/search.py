"""Queries in, hits out: dense, lexical and hybrid search over one index, with optional reranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from llm2comp_indexes.lexical import DEFAULT_LANGUAGE

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import EncoderError, UsageError
from llm2comp_apps.retrieval.fusion import Fusion, fuse
from llm2comp_apps.retrieval.rerank import MemoryReranker, Passage, Reranker
from llm2comp_apps.retrieval.snippets import Snippet, make_snippet
from llm2comp_apps.retrieval.stopwatch import Stopwatch
from llm2comp_apps.retrieval.typed import check_query

if TYPE_CHECKING:
    from llm2comp_indexes import Index, IndexedDocument

    from llm2comp_apps.corpus import Document

__all__ = [
    "RERANK_DEPTH",
    "Mode",
    "Ranked",
    "SearchHit",
    "SearchOptions",
    "Searcher",
    "check_encoder",
    "rerank_documents",
]

Mode: TypeAlias = Literal["dense", "lexical", "hybrid"]

#: Candidates that are scored anew with ``--rerank``, unless more hits are asked for.
RERANK_DEPTH = 100
#: Candidates that each side of a hybrid search brings at least. Fusion needs more than k: a document that is 30th on
#: both sides may be first of all, and min-max scaling needs scores from below the top to scale by. On SciFact's train
#: queries nDCG@10 grows with it (BM25 with LSA vectors: .649 at 10, .661 at 100, .665 at 200) and hardly beyond.
_HYBRID_DEPTH = 200
#: Queries that are encoded and searched at once in a batch; bounds memory for files of any length.
QUERY_BLOCK = 256


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search; documented once, for the API and the command line.

    Attributes:
        k: hits wanted; fewer come back only if fewer documents match.
        mode: ``dense`` compares embeddings, ``lexical`` words (BM25), ``hybrid`` joins both.
        fusion: how hybrid search joins: ``minmax`` or ``rrf``.
        where: keep only documents whose metadata meet this condition.
        rerank_depth: candidates to rerank, if there is a reranker; at least k are.
    """

    k: int = 10
    mode: Mode = "hybrid"
    fusion: Fusion = "minmax"
    where: str | None = None
    rerank_depth: int = RERANK_DEPTH

    def __post_init__(self) -> None:
        """Refuse what no search can do.

        Raises:
            UsageError: says which option.
        """
        if self.k < 1:
            raise UsageError(f"-k must be at least 1, not {self.k}")
        if self.rerank_depth < 1:
            raise UsageError(f"--rerank-depth must be at least 1, not {self.rerank_depth}")
        if self.mode not in get_args(Mode):
            raise UsageError(f"no mode called {self.mode!r}; there are: {', '.join(get_args(Mode))}")
        if self.fusion not in get_args(Fusion):
            raise UsageError(f"no fusion called {self.fusion!r}; there are: {', '.join(get_args(Fusion))}")

    def depth(self, *, reranked: bool) -> int:
        """How many candidates each side is asked for."""
        depth = max(self.k, self.rerank_depth) if reranked else self.k
        return max(depth, _HYBRID_DEPTH) if self.mode == "hybrid" else depth


@dataclass(frozen=True, slots=True)
class Ranked:
    """A place in a ranking: the document's id, its score, and the chunk that a dense search found best, if any."""

    id: str
    score: float
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A hit, ready to be shown.

    Attributes:
        rank: from 1.
        id: the document's id.
        score: larger is better; a cosine (dense), BM25 (lexical), a share of 1 (hybrid, min-max) or a reranker's own.
        title: may be empty.
        text: the whole text.
        metadata: the document's other fields.
        span: character range of the best chunk in ``text``, where documents were chunked and a dense search ran.
        snippet: the piece of ``text`` to show.
    """

    rank: int
    id: str
    score: float
    title: str
    text: str
    metadata: dict[str, Any]
    span: tuple[int, int] | None
    snippet: Snippet

    def to_dict(self) -> dict[str, Any]:
        """The hit as plain data, for ``--json``."""
        return {
            "rank": self.rank,
            "id": self.id,
            "score": self.score,
            "title": self.title,
            "snippet": self.snippet.text,
            "marks": [list(mark) for mark in self.snippet.marks],
            "span": list(self.span) if self.span else None,
            "text": self.text,
            "metadata": self.metadata,
        }


def check_encoder(index: Index, encoder: TextEncoder) -> None:
    """Refuse an encoder whose vectors mean something else than those in the index.

    Raises:
        EncoderError: the fingerprints differ.
    """
    built_by = index.encoder
    if built_by.get("fingerprint") != encoder.fingerprint:
        raise EncoderError(
            f"{index.path} was built with the encoder {built_by.get('name', 'unknown')} "
            f"(fingerprint {str(built_by.get('fingerprint'))[:12]}), not with {encoder.name} "
            f"({encoder.fingerprint[:12]}): their vectors cannot be compared; "
            "search with the first, or build another index with the second"
        )


class Searcher:
    """Searches one index; keeps the encoder and the reranker loaded between queries.

    Args:
        index: an open index.
        encoder: the one the index was built with; ``None`` if only lexical searches are wanted.
        reranker: scores the best candidates anew.
        stopwatch: counts the time of the parts, if given.

    Raises:
        EncoderError: the index was built with another encoder.
    """

    def __init__(
        self,
        index: Index,
        encoder: TextEncoder | None = None,
        *,
        reranker: Reranker | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        if encoder is not None:
            check_encoder(index, encoder)
        self._index = index
        self._encoder = encoder
        self._reranker = reranker
        self._clock = stopwatch or Stopwatch()
        self._language: str = index.settings.get("language", DEFAULT_LANGUAGE)

    def search(self, query: str, options: SearchOptions | None = None) -> list[SearchHit]:
        """The best hits for a query, with texts and snippets.

        Raises:
            UsageError: the query is empty, or the options need an encoder and there is none.
        """
        ranking = self.rank([query], options)[0]
        with self._clock.part("documents and snippets"):
            documents = self._documents(ranking)
            return [
                _hit(rank, query, ranked, document, self._language)
                for rank, (ranked, document) in enumerate(zip(ranking, documents, strict=True), start=1)
            ]

    def rank(self, queries: Sequence[str], options: SearchOptions | None = None) -> list[list[Ranked]]:
        """Rankings only, for many queries: what a run for evaluation needs.

        Returns:
            One list of at most k per query, best first.

        Raises:
            UsageError: a query is empty, or the options need an encoder and there is none.
        """
        options = options or SearchOptions()
        for query in queries:
            check_query(query)
        depth = options.depth(reranked=self._reranker is not None)
        dense = self._dense(queries, depth, options.where) if options.mode != "lexical" else None
        lexical = self._lexical(queries, depth, options.where) if options.mode != "dense" else None
        rankings = self._join(dense, lexical, options.fusion)
        if self._reranker is not None:
            rankings = [self._rerank(query, ranking, options) for query, ranking in zip(queries, rankings, strict=True)]
        return [ranking[: options.k] for ranking in rankings]

    def _dense(self, queries: Sequence[str], depth: int, where: str | None) -> list[list[Ranked]]:
        if self._encoder is None:
            raise UsageError(
                "dense and hybrid search need the encoder that the index was built with; or search lexically"
            )
        rankings: list[list[Ranked]] = []
        for start in range(0, len(queries), QUERY_BLOCK):
            with self._clock.part("encode query"):
                block = queries[start : start + QUERY_BLOCK]
                vectors = self._encoder.encode(block, prompt=self._encoder.prompts.get("query"))
            with self._clock.part("dense search"):
                found = self._index.search(vectors, depth, where=where)
            rankings += [[Ranked(hit.id, hit.score, hit.span) for hit in hits] for hits in found]
        return rankings

    def _lexical(self, queries: Sequence[str], depth: int, where: str | None) -> list[list[Ranked]]:
        with self._clock.part("lexical search"):
            return [
                [Ranked(hit.id, hit.score) for hit in self._index.search_lexical(query, depth, where=where)]
                for query in queries
            ]

    def _join(
        self, dense: list[list[Ranked]] | None, lexical: list[list[Ranked]] | None, fusion: Fusion
    ) -> list[list[Ranked]]:
        if dense is None or lexical is None:
            return dense if dense is not None else lexical or []
        with self._clock.part("fusion"):
            return [_fuse_pair(*pair, fusion) for pair in zip(dense, lexical, strict=True)]

    def _rerank(self, query: str, ranking: list[Ranked], options: SearchOptions) -> list[Ranked]:
        """Order the head of a ranking by the reranker; what lies below its depth is dropped, never mixed in."""
        assert self._reranker is not None
        head = ranking[: max(options.k, options.rerank_depth)]
        with self._clock.part("rerank"):
            pairs = list(zip(self._documents(head), head, strict=True))
            if isinstance(self._reranker, MemoryReranker):
                pairs = [(document, piece) for document, found in pairs for piece in _pieces(document, found)]
            scores = self._reranker.score(query, [_passage(*pair) for pair in pairs])
        best: dict[str, Ranked] = {}
        for (_, old), score in zip(pairs, scores.tolist(), strict=True):
            if old.id not in best or score > best[old.id].score:
                best[old.id] = Ranked(old.id, score, old.span)
        return sorted(best.values(), key=lambda ranked: -ranked.score)

    def _documents(self, ranking: Sequence[Ranked]) -> list[IndexedDocument]:
        return self._index.get([ranked.id for ranked in ranking])


def rerank_documents(query: str, documents: Sequence[Document], reranker: Reranker) -> list[SearchHit]:
    """Order documents that lie in no index.

    Returns:
        All of them, best first; equal scores keep their order.
    """
    scores = reranker.score(query, [Passage(document.id, document.title, document.text) for document in documents])
    order = sorted(range(len(documents)), key=lambda place: -float(scores[place]))
    return [
        _hit(rank, query, Ranked(documents[place].id, float(scores[place])), documents[place], DEFAULT_LANGUAGE)
        for rank, place in enumerate(order, start=1)
    ]


def _pieces(document: IndexedDocument, found: Ranked) -> list[Ranked]:
    """A document that was found by its words alone as each of its chunks, all of whose memory vectors are stored."""
    if found.span is not None or not document.spans:
        return [found]
    return [Ranked(found.id, found.score, span) for span in document.spans]


def _passage(document: IndexedDocument, ranked: Ranked) -> Passage:
    text = document.text[slice(*ranked.span)] if ranked.span else document.text
    return Passage(document.id, document.title, text, ranked.span)


def _hit(rank: int, query: str, ranked: Ranked, document: Document | IndexedDocument, language: str) -> SearchHit:
    return SearchHit(
        rank=rank,
        id=ranked.id,
        score=ranked.score,
        title=document.title,
        text=document.text,
        metadata=document.metadata,
        span=ranked.span,
        snippet=make_snippet(document.text, query, span=ranked.span, language=language),
    )


def _fuse_pair(dense: list[Ranked], lexical: list[Ranked], fusion: Fusion) -> list[Ranked]:
    spans = {ranked.id: ranked.span for ranked in dense}
    pairs = [[(ranked.id, ranked.score) for ranked in ranking] for ranking in (dense, lexical)]
    return [Ranked(document, score, spans.get(document)) for document, score in fuse(pairs, fusion)]
