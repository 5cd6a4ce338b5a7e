"""Queries in, hits out: dense, lexical and hybrid search over one index, with optional reranking."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, Unpack

import numpy as np
from llm2comp_indexes import ParsedQuery
from llm2comp_indexes.lexical import DEFAULT_LANGUAGE

from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.batched import batched
from llm2comp_apps.retrieval.fusion import Ranking, fuse
from llm2comp_apps.retrieval.hits import Parts, Ranked, Reread, SearchHit, continued, followed_by, to_hits
from llm2comp_apps.retrieval.index_encoder import check_query_encoder
from llm2comp_apps.retrieval.learned import LEARNED, LearnedFusion, learned_of, weight_of_meaning
from llm2comp_apps.retrieval.options import SearchOptions, SearchSettings
from llm2comp_apps.retrieval.pages import FACET_DEPTH, SearchPage, facet_counts
from llm2comp_apps.retrieval.passages import Passages, documents_of
from llm2comp_apps.retrieval.query_text import check_count, check_query, listed, listed_texts, one_row
from llm2comp_apps.retrieval.rerank import MemoryReranker, Passage, ReadsStored, Reranker, files_of, share_of
from llm2comp_apps.retrieval.rerank.paced import RERANK_MS
from llm2comp_apps.retrieval.rereading import Asked, check_reranking, read_again, reads_first
from llm2comp_apps.retrieval.stopwatch import Stopwatch

if TYPE_CHECKING:
    from llm2comp_indexes import Hit, Index, IndexedDocument, QueryWords

    from llm2comp_apps.corpus import Document

__all__ = ["Searcher", "Sides", "rerank_documents"]

_Rankings: TypeAlias = list[list[Ranked]]

#: Candidates that each side of a hybrid search brings. Fusion needs more than k: a document that is 30th on both sides
#: may be first of all, and min-max scaling needs scores from below the top to scale by. On SciFact's train queries
#: nDCG@10 grows with it (BM25 with LSA vectors: .649 at 10, .661 at 100, .665 at 200) and hardly beyond. It does not
#: grow with the hits that are wanted, or the first of them would change from page to page.
_HYBRID_DEPTH = 200
#: How far down a hybrid search looks for what lies behind them, and then ten times further: a server asks its shards
#: for 11,000 at most, and a run has 1,000.
_NEXT_DEPTH = 1_100
#: Queries that are encoded and searched at once in a batch; bounds memory for files of any length.
QUERY_BLOCK = 256


class Sides(NamedTuple):
    """What a hybrid search joins.

    Attributes:
        dense: the ranking by meaning.
        lexical: the ranking by words.
        words: of the query.
        spans: of the chunk by which each document of ``dense`` was found; ``None`` for one without chunks.
    """

    dense: Ranking
    lexical: Ranking
    words: QueryWords
    spans: Mapping[str, tuple[int, int] | None]


class _Found(NamedTuple):
    """Documents for each query.

    Attributes:
        dense: by meaning; ``None`` where words alone are compared.
        lexical: by words; ``None`` where vectors alone are compared.
        joined: by both, or by the one that there is.
    """

    dense: _Rankings | None
    lexical: _Rankings | None
    joined: _Rankings


class Searcher:
    """Searches one index; keeps the encoder and the reranker loaded between queries.

    Args:
        index: an open index.
        encoder: of the queries: the one the index was built with, or one aligned to it; ``None`` if only lexical
            searches are wanted.
        reranker: scores the best candidates again.
        reranker_name: by which learned weights know it.
        stopwatch: counts the time of the parts, if given.

    Raises:
        EncoderError: the index was built with an encoder whose vectors are others.
    """

    def __init__(
        self,
        index: Index,
        encoder: TextEncoder | None = None,
        *,
        reranker: Reranker | None = None,
        reranker_name: str | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        if encoder is not None:
            check_query_encoder(index, encoder)
        self._index = index
        self._encoder = encoder
        self._reranker = reranker
        self._reranker_name = reranker_name
        self._clock = stopwatch or Stopwatch()
        self._language: str = index.settings.get("language", DEFAULT_LANGUAGE)

    @property
    def reranker(self) -> Reranker | None:
        """What scores the best candidates again."""
        return self._reranker

    @property
    def reranker_name(self) -> str | None:
        """By which it was asked for; ``None`` without one, and for an object."""
        return self._reranker_name

    def search(self, query: str, options: SearchOptions | None = None) -> list[SearchHit]:
        """The best hits for a query, with texts and snippets.

        Raises:
            UsageError: the query is empty, or the options need an encoder and there is none.
        """
        return self.search_batch([query], options)[0]

    def search_batch(self, queries: Sequence[str], options: SearchOptions | None = None) -> list[list[SearchHit]]:
        """The best hits of each query, which are encoded together.

        Raises:
            UsageError: a query is empty, or the options need an encoder and there is none.
        """
        options = self._waited_for(options or SearchOptions())
        parsed = _parsed(queries, options, typed=True)
        with self._pinned() as pinned:
            rankings = pinned._rank(parsed, options)
            with self._clock.part("documents and snippets"):
                return [pinned._hits(query, ranking, options) for query, ranking in zip(parsed, rankings, strict=True)]

    def page(
        self,
        query: str,
        *,
        offset: int = 0,
        facets: Sequence[str] = (),
        vector: FloatArray | Sequence[float] | None = None,
        **settings: Unpack[SearchSettings],
    ) -> SearchPage:
        """A page of the hits for a query.

        Pages of one size fit together. A reranker scores what it would for the first of them; the others follow.

        Args:
            query: what is asked; may be empty for a search by vector alone.
            offset: hits before the page, which has ``k``.
            facets: fields whose values among the hits are counted.
            vector: ``(d,)``, the query encoded already; then no encoder is needed.
            **settings: see :class:`SearchOptions`.

        Raises:
            UsageError: as for :meth:`search`.
        """
        options = self._waited_for(SearchOptions(**settings))
        check_count(offset, "offset", least=0)
        facets = listed_texts(facets, "facets")
        if self._reranker is not None and not query.strip():
            raise UsageError("needs a query that can be read, beside its vector", field="rerank")
        depth = max(offset + options.k, self._counted(options, facets))
        (parsed,) = _parsed([query], options, typed=True, given=vector is not None)
        with self._pinned() as pinned:
            row = one_row(vector, self._index.dimension)
            read = options.wanted(reranked=True)  # by a reranker, for any page: or hits would move from page to page
            (ranking,) = pinned._rank([parsed], replace(options, k=depth), row, read)
            shown = ranking[offset : offset + options.k]
            with self._clock.part("documents and snippets"):
                hits = pinned._hits(parsed, shown, options)
                hits = [replace(hit, rank=offset + hit.rank) for hit in hits]
                ids = list(dict.fromkeys(found.id for found in ranking))
                counts = facet_counts(pinned._index, facets, ids)
        return SearchPage(hits, len(ranking), depth, ids, counts)

    def _counted(self, options: SearchOptions, facets: Sequence[str]) -> int:
        """How many hits are counted behind a page."""
        if self._reranker is not None:
            return options.wanted(reranked=True)  # which it would have read for the page alone
        if options.passages and not facets:
            return 0  # to take so many documents apart costs more than the page
        return FACET_DEPTH

    def rank(self, queries: Sequence[str], options: SearchOptions | None = None) -> list[list[Ranked]]:
        """Rankings only, for many queries: what a run for evaluation needs.

        Returns:
            One list of at most k per query, best first.

        Raises:
            UsageError: a query is empty, or the options need an encoder and there is none.
        """
        options = options or SearchOptions()
        check_reranking(self._reranker, options)
        with self._pinned() as pinned:
            return pinned._rank(_parsed(queries, options, typed=False), options)

    def _waited_for(self, options: SearchOptions) -> SearchOptions:
        """The options of somebody who waits for the hits: a model gets a time, unless they say otherwise."""
        check_reranking(self._reranker, options)
        given = options.rerank_ms is not None or options.rerank_depth is not None
        compares = isinstance(self._reranker, MemoryReranker) and self._reranker.has_stored
        return options if given or compares else replace(options, rerank_ms=RERANK_MS)

    def sides(self, queries: Sequence[str]) -> list[Sides]:
        """What a hybrid search joins, for each query.

        Raises:
            UsageError: a query is empty, or there is no encoder.
        """
        parsed = _parsed(queries, SearchOptions(), typed=False)
        with self._pinned() as pinned:
            dense = pinned._dense(parsed, pinned._encode(parsed), _HYBRID_DEPTH, None)
            lexical = pinned._lexical(parsed, _HYBRID_DEPTH, None)
            words = [pinned._index.query_words(query.text) for query in parsed]
        plain = ([[(each.id, each.score) for each in ranking] for ranking in side] for side in (dense, lexical))
        spans = [{each.id: each.span for each in ranking} for ranking in dense]
        return [Sides(*each) for each in zip(*plain, words, spans, strict=True)]

    def rescored(self, query: str, ranking: Sequence[Ranked]) -> dict[str, float]:
        """What the reranker says of each document of a ranking: the best of what it reads of it, by id."""
        with self._pinned() as pinned:
            parsed = _parsed([query], SearchOptions(), typed=False)
            vector = pinned._encode(parsed)[0] if reads_first(pinned._reranker) else None
            pieces = pinned._read_again(Asked(query, vector=vector), ranking, None)
        return {each[0].id: max(piece.score for piece in each) for each in pieces}

    @contextmanager
    def _pinned(self) -> Iterator[Searcher]:
        """This searcher on one generation of the index, whatever other threads commit meanwhile."""
        with self._index.pinned() as index:
            pinned = copy.copy(self)
            pinned._index = index
            if isinstance(self._reranker, ReadsStored) and index.memory_tokens:
                pinned._reranker = self._reranker.reading(index.memory)
            yield pinned

    def _rank(
        self,
        queries: Sequence[ParsedQuery],
        options: SearchOptions,
        vectors: FloatArray | None = None,
        read: int | None = None,
    ) -> _Rankings:
        """The best k hits of each query.

        Args:
            queries: as they are understood.
            options: of the search.
            vectors: ``(q, d)`` where somebody encoded the queries already.
            read: candidates of a reranker; ``None`` for as many as the options say.
        """
        self.check(options)
        memory, vectors = self._encoded(queries, options, vectors)
        wanted = options.wanted(reranked=self._reranker is not None)
        found = self._found(queries, vectors, documents_of(wanted) if options.passages else wanted, options)
        rankings = self._passages(queries, vectors, found, options) if options.passages else found.joined
        if self._reranker is not None:
            by_meaning = vectors if vectors is not None and options.mode == "hybrid" else [None] * len(queries)
            asked = [Asked(query.text, own, near) for query, own, near in zip(queries, memory, by_meaning, strict=True)]
            rankings = [self._rerank(*each, options, read or wanted) for each in zip(asked, rankings, strict=True)]
        return [ranking[: options.k] for ranking in rankings]

    def check(self, options: SearchOptions) -> None:
        """Refuse what this index or this reranker cannot do, before anything is encoded or searched.

        Raises:
            UsageError: names the setting.
        """
        if options.passages:
            Passages.check(self._index)
        reads_first(self._reranker, options.mode)
        if options.fusion == LEARNED:
            learned_of(self._index)  # refused where there are none, whether or not two rankings are joined

    def _encoded(
        self, queries: Sequence[ParsedQuery], options: SearchOptions, vectors: FloatArray | None
    ) -> tuple[Sequence[FloatArray | None], FloatArray | None]:
        """What queries are compared by.

        Returns:
            Memory vectors ``(k, d)`` of each query, ``None`` where the reranker reads none; and embeddings ``(q, d)``,
            ``None`` where words alone are compared. One encoder makes both in one pass.
        """
        memory: Sequence[FloatArray | None] = [None] * len(queries)
        if isinstance(self._reranker, MemoryReranker):
            with self._clock.part("encode query"):
                read = self._reranker.read([query.text for query in queries])
            memory = list(read)
            if vectors is None and self._encoder is not None:
                vectors = self._reranker.embeddings(read, self._encoder)
        if options.mode == "lexical":
            return memory, None
        return memory, self._encode(queries) if vectors is None else vectors

    def _passages(
        self, queries: Sequence[ParsedQuery], vectors: FloatArray | None, found: _Found, options: SearchOptions
    ) -> _Rankings:
        """The documents that were found, taken apart into passages."""
        wanted = options.wanted(reranked=self._reranker is not None)
        passages = Passages(self._index, options, self._language, depth=wanted)
        with self._clock.part("passages"):
            return [
                passages.of(
                    query,
                    found.joined[number],
                    vector=None if vectors is None else vectors[number],
                    dense=None if found.dense is None else found.dense[number],
                    lexical=None if found.lexical is None else found.lexical[number],
                )
                for number, query in enumerate(queries)
            ]

    def _found(
        self, queries: Sequence[ParsedQuery], vectors: FloatArray | None, wanted: int, options: SearchOptions
    ) -> _Found:
        """Look for documents in steps of fixed depths; what a step finds comes behind what those before it found."""
        depth = _HYBRID_DEPTH if options.mode == "hybrid" else wanted
        rankings: _Rankings = [[] for _ in queries]
        while True:
            dense = None if vectors is None else self._dense(queries, vectors, depth, options.where)
            lexical = None if options.mode == "dense" else self._lexical(queries, depth, options.where)
            joined = self._join(queries, dense, lexical, options)
            rankings = [continued(*both) for both in zip(rankings, joined, strict=True)]
            if min(map(len, rankings), default=wanted) >= wanted or depth >= min(wanted, len(self._index)):
                return _Found(dense, lexical, rankings)
            depth = _NEXT_DEPTH if depth < _NEXT_DEPTH else 10 * depth

    def _encode(self, queries: Sequence[ParsedQuery]) -> FloatArray:
        """Vectors of queries ``(q, d)``."""
        if self._encoder is None:
            reason = "must be lexical without an encoder: the others need the one that the index was built with"
            raise UsageError(reason, field="mode")
        blocks = []
        with self._clock.part("encode query"):
            for block in batched(queries, QUERY_BLOCK):
                texts = [query.text for query in block]
                blocks.append(self._encoder.encode(texts, prompt=self._encoder.prompts.get("query")))
        return np.concatenate(blocks) if blocks else np.empty((0, self._index.dimension), dtype=np.float32)

    def _dense(self, queries: Sequence[ParsedQuery], vectors: FloatArray, depth: int, where: str | None) -> _Rankings:
        """Rankings by meaning."""
        rankings: _Rankings = []
        with self._clock.part("dense search"):
            for start in range(0, len(queries), QUERY_BLOCK):
                block = slice(start, start + QUERY_BLOCK)
                found = self._nearest(queries[block], vectors[block], depth, where)
                rankings += [[Ranked(hit.id, hit.score, hit.span) for hit in hits] for hits in found]
        return rankings

    def _nearest(
        self, queries: Sequence[ParsedQuery], vectors: FloatArray, depth: int, where: str | None
    ) -> list[list[Hit]]:
        """Nearest documents of queries, which are compared together unless one demands words."""
        if not any(query.demands for query in queries):
            return self._index.search(vectors, depth, where=where)
        return [
            self._index.search(vector, depth, where=where, clauses=query.demands)[0]
            for query, vector in zip(queries, vectors, strict=True)
        ]

    def _lexical(self, queries: Sequence[ParsedQuery], depth: int, where: str | None) -> list[list[Ranked]]:
        search = self._index.search_lexical
        with self._clock.part("lexical search"):
            found = [search(query.text, depth, where=where, clauses=query.clauses) for query in queries]
        return [[Ranked(hit.id, hit.score) for hit in hits] for hits in found]

    def _join(
        self, queries: Sequence[ParsedQuery], dense: _Rankings | None, lexical: _Rankings | None, options: SearchOptions
    ) -> _Rankings:
        if dense is None or lexical is None:
            return dense if dense is not None else lexical or []
        with self._clock.part("fusion"):
            words = [self._index.query_words(query.text) for query in queries]
            return [self._fuse_pair(*each, options) for each in zip(dense, lexical, words, strict=True)]

    def _fuse_pair(
        self, dense: list[Ranked], lexical: list[Ranked], words: QueryWords, options: SearchOptions
    ) -> list[Ranked]:
        spans = {ranked.id: ranked.span for ranked in dense}
        near, found = ([(ranked.id, ranked.score) for ranked in ranking] for ranking in (dense, lexical))
        alpha = weight_of_meaning(self._index, options, near, found, words)
        fused = fuse(near, found, words, fusion=options.fusion, alpha=alpha)
        cosines, bm25 = dict(near), dict(found)
        return [
            Ranked(document, score, spans.get(document), Parts(cosines.get(document), bm25.get(document), words.most))
            for document, score in fused
        ]

    def _rerank(self, asked: Asked, ranking: list[Ranked], options: SearchOptions, depth: int) -> list[Ranked]:
        """Order the head of a ranking, ``depth`` hits, by the reranker; what lies below is never mixed in.

        It follows in its order, behind what the time was too short for.
        """
        reranker = self._reranker
        assert reranker is not None
        head = ranking[:depth]
        with self._clock.part("rerank"):
            pieces = self._read_again(asked, head, options.rerank_ms)
        reread = Reread(scored=True, depth=len(pieces), candidates=len(head))
        best: dict[tuple[str, tuple[int, int] | None], Ranked] = {}
        for piece in chain.from_iterable(pieces):
            hit = (piece.id, piece.span if options.passages else None)
            if hit not in best or piece.score > best[hit].score:
                best[hit] = replace(piece, reread=reread)
        scored = list(best.values())
        weights = self._weights(reranker, options)
        if weights is not None:
            before = {(old.id, old.span if options.passages else None): old.score for old in head}
            joined = weights.joined([before[hit] for hit in best], [each.score for each in scored])
            scored = [replace(each, score=score) for each, score in zip(scored, joined, strict=True)]
        rest = [replace(old, reread=replace(reread, scored=False)) for old in ranking[len(pieces) :]]
        return followed_by(sorted(scored, key=lambda ranked: -ranked.score), rest)

    def _read_again(self, asked: Asked, head: Sequence[Ranked], milliseconds: float | None) -> list[list[Ranked]]:
        assert self._reranker is not None
        found = list(zip(head, self._documents(head), strict=True))
        language = self._language
        return read_again(self._reranker, asked, found, self._index, milliseconds=milliseconds, language=language)

    def _weights(self, reranker: Reranker, options: SearchOptions) -> LearnedFusion | None:
        """Of the first search and the reranker: those that the index learned, else the reranker's own."""
        learned = LearnedFusion.of(self._index.settings) if options.fusion == LEARNED else None
        if learned is not None and learned.is_about(self._reranker_name, files_of(reranker)):
            return learned
        share = share_of(reranker)
        return LearnedFusion(of_reranker=share) if share < 1 else None

    def _hits(self, query: ParsedQuery, ranking: Sequence[Ranked], options: SearchOptions) -> list[SearchHit]:
        hits = to_hits(query, ranking, self._documents(ranking), self._language)
        return [replace(hit, text=hit.text[slice(*hit.span)]) if options.passages and hit.span else hit for hit in hits]

    def _documents(self, ranking: Sequence[Ranked]) -> list[IndexedDocument]:
        return self._index.get([ranked.id for ranked in ranking])


def rerank_documents(query: str, documents: Sequence[Document], reranker: Reranker) -> list[SearchHit]:
    """Order documents that lie in no index.

    Returns:
        All of them, best first; equal scores keep their order.
    """
    scores = reranker.score(query, [Passage(document.id, document.title, document.text) for document in documents])
    order = sorted(range(len(documents)), key=lambda place: -float(scores[place]))
    ranking = [Ranked(documents[place].id, float(scores[place])) for place in order]
    return to_hits(ParsedQuery(query), ranking, [documents[place] for place in order])


def _parsed(queries: Sequence[str], options: SearchOptions, *, typed: bool, given: bool = False) -> list[ParsedQuery]:
    """Queries as they are understood; one whose vector is given may be empty where only vectors are compared."""
    queries = listed(queries, "queries")
    for query in queries:
        if not given or options.mode != "dense":
            check_query(query)
    return options.parsed(queries, typed=typed)
