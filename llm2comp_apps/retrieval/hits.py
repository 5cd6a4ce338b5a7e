"""Places in a ranking, and the hits that people and programs see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from llm2comp_indexes import ParsedQuery
from llm2comp_indexes.lexical import DEFAULT_LANGUAGE

from llm2comp_apps.retrieval.snippets import Snippet, make_snippet

if TYPE_CHECKING:
    from llm2comp_indexes import IndexedDocument

    from llm2comp_apps.corpus import Document

__all__ = ["Parts", "Ranked", "Reread", "SearchHit", "field_of", "followed_by", "to_hits"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What either side of a hybrid search said of a document.

    Attributes:
        cosine: of query and document; ``None`` if it is not among the nearest.
        bm25: of its words; ``None`` if it has none of the query.
        most: the most that BM25 gives to any document for this query.
    """

    cosine: float | None
    bm25: float | None
    most: float

    @property
    def coverage(self) -> float:
        """Share of the query's words, weighed by rarity, that the document holds."""
        return 0.0 if self.bm25 is None or self.most <= 0 else self.bm25 / self.most

    def to_dict(self) -> dict[str, float | None]:
        """The parts as plain data, for JSON."""
        return {"cosine": self.cosine, "bm25": self.bm25, "coverage": self.coverage}


@dataclass(frozen=True, slots=True)
class Reread:
    """What a reranker did for a query.

    Attributes:
        scored: whether this hit's score is the reranker's; the others follow in the order of the first search.
        depth: how many candidates it read.
        candidates: how many there were to read.
    """

    scored: bool
    depth: int
    candidates: int

    def line(self) -> str:
        """How many candidates were read, for people."""
        more = " (`rerank_ms` allows more)" if self.depth < self.candidates else ""
        return f"{self.depth} of {self.candidates} candidates were scored again{more}"


@dataclass(frozen=True, slots=True)
class Ranked:
    """A place in a ranking.

    Attributes:
        id: of a document.
        score: larger is better.
        span: of the chunk that a dense search found best.
        parts: of the score of a hybrid search.
        reread: what a reranker did; ``None`` without one.
    """

    id: str
    score: float
    span: tuple[int, int] | None = None
    parts: Parts | None = None
    reread: Reread | None = None


def followed_by(head: Sequence[Ranked], rest: Iterable[Ranked]) -> list[Ranked]:
    """A ranking behind another one; the scores of the rest only continue those of the head."""
    lowest = min((found.score for found in head), default=0.0)
    return [*head, *(replace(found, score=lowest - 1 - place) for place, found in enumerate(rest))]


def continued(head: Sequence[Ranked], deeper: Sequence[Ranked], *, passages: bool = False) -> list[Ranked]:
    """A ranking, and behind it what another one has besides; its scores are lowered to begin where the first ends.

    With ``passages`` several hits may be of one document.
    """

    def name(found: Ranked) -> object:
        return (found.id, found.span) if passages else found.id

    known = {name(found) for found in head}
    rest = [found for found in deeper if name(found) not in known]
    if not head or not rest:
        return [*head, *rest]
    lowest = head[-1].score
    gap = max(0.0, rest[0].score - lowest)
    return [*head, *(replace(found, score=min(lowest, found.score - gap)) for found in rest)]


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A hit, ready to be shown.

    Attributes:
        rank: from 1.
        id: the document's id.
        score: larger is better; a cosine (dense), BM25 (lexical), a reranker's own, or (hybrid) a mean of the cosine
            and of the share of the query's words that the document covers (:mod:`llm2comp_apps.retrieval.fusion`).
        title: may be empty.
        text: the whole text; of a passage, its own.
        metadata: the document's other fields.
        span: character range of the best chunk in the document's text, where documents were chunked and a dense search
            ran; of a passage, its own.
        snippet: the piece of ``text`` to show.
        parts: what the score of a hybrid search is of.
        reread: what a reranker did; ``None`` without one.
    """

    rank: int
    id: str
    score: float
    title: str
    text: str
    metadata: dict[str, Any]
    span: tuple[int, int] | None
    snippet: Snippet
    parts: Parts | None = None
    reread: Reread | None = None

    @property
    def shown_score(self) -> str:
        """The score for people; that of a hit which a reranker did not read only keeps its place."""
        return f"{self.score:.4g}" if self.reread is None or self.reread.scored else "not scored again"

    def to_dict(self) -> dict[str, Any]:
        """The hit as plain data, for JSON."""
        return {
            "rank": self.rank,
            "id": self.id,
            "score": self.score,
            **({} if self.parts is None else {"parts": self.parts.to_dict()}),
            **({} if self.reread is None else {"reranked": asdict(self.reread)}),
            "title": self.title,
            "snippet": self.snippet.text,
            "marks": [list(mark) for mark in self.snippet.marks],
            "span": list(self.span) if self.span else None,
            "text": self.text,
            "metadata": self.metadata,
        }


def field_of(metadata: Mapping[str, Any], name: str) -> Any:
    """The value of a field, ``author.name`` for one inside another; ``None`` if it is not there."""
    if name in metadata:
        return metadata[name]
    outer, _, inner = name.partition(".")
    held = metadata.get(outer)
    return field_of(held, inner) if inner and isinstance(held, dict) else None


def to_hits(
    query: ParsedQuery,
    ranking: Sequence[Ranked],
    documents: Sequence[Document | IndexedDocument],
    language: str = DEFAULT_LANGUAGE,
) -> list[SearchHit]:
    """Make hits of a ranking.

    Args:
        query: its words are marked in the snippets; one without text for none.
        ranking: best first.
        documents: those of the ranking, in its order.
        language: of the index's lexical side.
    """
    prefixes = tuple(clause.text for clause in query.clauses if clause.kind == "prefix" and clause.sign != "must not")
    return [
        SearchHit(
            rank=rank,
            id=ranked.id,
            score=ranked.score,
            title=document.title,
            text=document.text,
            metadata=document.metadata,
            span=ranked.span,
            snippet=make_snippet(document.text, query.text, span=ranked.span, language=language, prefixes=prefixes),
            parts=ranked.parts,
            reread=ranked.reread,
        )
        for rank, (ranked, document) in enumerate(zip(ranking, documents, strict=True), start=1)
    ]
