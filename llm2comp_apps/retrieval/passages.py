"""Passages, the chunks of documents, as hits of their own.

Documents are ranked first, and the best of them are taken apart. A passage has its own cosine, of the vector that the
index holds of it, and its own words: of the score that BM25 gives to its document, the share of the words of the query
that the passage holds, weighed by rarity. Its title belongs to each passage, as it does when passages are encoded.

By cosine alone this is exact: the best k passages lie in the best k documents, since a document is as near as its
nearest passage. Conditions and operators are about documents.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from llm2comp_indexes import words

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.fusion import fuse, share_of_meaning
from llm2comp_apps.retrieval.hits import Parts, Ranked, continued
from llm2comp_apps.retrieval.learned import weight_of_meaning
from llm2comp_apps.retrieval.snippets import beginning

if TYPE_CHECKING:
    from llm2comp_indexes import Index, IndexedDocument, ParsedQuery

    from llm2comp_apps.retrieval.options import SearchOptions

__all__ = ["Passages", "documents_of"]

_STEPS = (50, 200, 1_100)
"""Documents that are taken apart, and then ten times more. Where words count, the best passage may lie in a document of
lower rank; how many are looked at does not grow with the passages that are wanted, or the first of them would change
from page to page. What further documents have comes behind."""

_Place: TypeAlias = tuple[str, tuple[int, int] | None]
"""A passage: the document's id and the range of its characters; ``None`` for all of them."""
_Scored: TypeAlias = list[tuple[_Place, float]]


def _steps() -> Iterator[int]:
    yield from _STEPS
    yield from (_STEPS[-1] * 10**power for power in itertools.count(1))


def documents_of(passages: int) -> int:
    """How many documents are looked for where so many passages are wanted; there is always a second step."""
    return next(step for step in _steps() if step >= passages and step > _STEPS[0])


@dataclass(frozen=True, slots=True)
class Passages:
    """Takes the documents of rankings apart.

    Attributes:
        index: an open index.
        options: of the search.
        language: of the index's lexical side.
        depth: passages wanted.
    """

    index: Index
    options: SearchOptions
    language: str
    depth: int

    @staticmethod
    def check(index: Index) -> None:
        """Refuse to look for passages where every document is one.

        Raises:
            UsageError: the index was made without chunks.
        """
        if index.settings.get("chunk") is None:
            reason = f"needs an index that was made with chunks; in {index.path} every document is one passage"
            raise UsageError(reason, field="passages")

    def of(
        self,
        query: ParsedQuery,
        ranking: Sequence[Ranked],
        *,
        vector: FloatArray | None,
        dense: Sequence[Ranked] | None,
        lexical: Sequence[Ranked] | None,
    ) -> list[Ranked]:
        """The passages of the best documents, best first.

        Args:
            query: as it is understood.
            ranking: documents as they are ranked.
            vector: ``(d,)``, of the query; ``None`` if words alone are compared.
            dense: documents by meaning; ``None`` if words alone are compared.
            lexical: documents by words; ``None`` if vectors alone are compared.
        """
        if lexical is None:
            documents = self._documents(ranking, self.depth)
            near = [] if vector is None else _by_meaning(self.index, documents, vector)
            return [Ranked(name, score, span) for (name, span), score in near[: self.depth]]
        found: list[Ranked] = []
        for count in _steps():
            taken = self._taken(query, self._documents(ranking, count), vector, dense, lexical)
            found = taken if dense is None else continued(found, taken, passages=True)
            # No passage has more of the words than its document, so by words alone it is known when no other is better.
            most = ranking[count].score if count < len(ranking) else -math.inf
            enough = len(found) >= self.depth and (dense is not None or found[self.depth - 1].score >= most)
            if enough or count >= len(ranking):
                break
        return found[: self.depth]

    def _documents(self, ranking: Sequence[Ranked], count: int) -> list[IndexedDocument]:
        return self.index.get([ranked.id for ranked in ranking[:count]])

    def _taken(
        self,
        query: ParsedQuery,
        documents: Sequence[IndexedDocument],
        vector: FloatArray | None,
        dense: Sequence[Ranked] | None,
        lexical: Sequence[Ranked],
    ) -> list[Ranked]:
        """All passages of documents that words were looked for in, best first."""
        near = [] if vector is None else _by_meaning(self.index, documents, vector)
        bm25 = {ranked.id: ranked.score for ranked in lexical}
        found = _by_words(self.index, query, documents, bm25, self.language) if bm25 else []
        if dense is None:
            return [Ranked(name, score, span) for (name, span), score in found]
        return self._join(query, near, found, dense, lexical)

    def _join(
        self, query: ParsedQuery, near: _Scored, found: _Scored, dense: Sequence[Ranked], lexical: Sequence[Ranked]
    ) -> list[Ranked]:
        """Passages by meaning and by words, weighed as the documents of the query are."""
        asked = self.index.query_words(query.text)
        fusion = self.options.fusion
        alpha = weight_of_meaning(self.index, self.options, _pairs(dense), _pairs(lexical), asked)
        if fusion == "weighted" and alpha is None:
            alpha = share_of_meaning(_pairs(dense), _pairs(lexical), asked)
        names = {place: f"{number:09}" for number, (place, _) in enumerate(near)}
        by_meaning, by_words = ([(names[place], score) for place, score in side] for side in (near, found))
        fused = fuse(by_meaning, by_words, asked, fusion=fusion, alpha=alpha)
        places = {name: place for place, name in names.items()}
        cosines, shares = dict(near), dict(found)
        ranking = [(places[name], score) for name, score in fused]
        return [
            Ranked(place[0], score, place[1], Parts(cosines[place], shares.get(place), asked.most))
            for place, score in ranking
        ]


def _pairs(ranking: Sequence[Ranked]) -> list[tuple[str, float]]:
    return [(ranked.id, ranked.score) for ranked in ranking]


def _places(document: IndexedDocument) -> list[_Place]:
    return [(document.id, span) for span in document.spans or (None,)]


def _by_meaning(index: Index, documents: Sequence[IndexedDocument], vector: FloatArray) -> _Scored:
    """All passages of documents by their cosine, best first."""
    if not documents:
        return []
    places = [place for document in documents for place in _places(document)]
    cosines = index.vectors([document.id for document in documents]) @ (vector / np.linalg.norm(vector))
    return _best_first(zip(places, cosines.tolist(), strict=True))


def _by_words(
    index: Index, query: ParsedQuery, documents: Sequence[IndexedDocument], bm25: Mapping[str, float], language: str
) -> _Scored:
    """The passages that hold words of the query, by their share of their document's score, best first."""
    weights = {
        word.term: index.query_words(query.text[word.start : word.end]).most for word in words(query.text, language)
    }
    begins = {
        begin: f"{clause.text}*"
        for clause in query.clauses
        if clause.kind == "prefix" and clause.sign != "must not" and (begin := beginning(clause.text)) is not None
    }
    weights |= {term: index.query_words(begin).most for begin, term in begins.items()}

    def held(text: str) -> set[str]:
        found = words(text, language)
        forms = [word.term for word in words(text, "none")] if begins else []
        begun = {term for begin, term in begins.items() if any(form.startswith(begin) for form in forms)}
        return begun | ({word.term for word in found} & weights.keys())

    def worth(terms: set[str]) -> float:
        return sum(weights[term] for term in sorted(terms))

    scored = []
    for document in documents:
        if document.id in bm25:
            title = held(document.title)
            pieces = [
                (place, title | held(document.text[slice(*(place[1] or (0, None)))])) for place in _places(document)
            ]
            whole = worth(set().union(*(terms for _, terms in pieces)))
            scored += [(place, bm25[document.id] * worth(terms) / whole) for place, terms in pieces if worth(terms) > 0]
    return _best_first(scored)


def _best_first(scored: Iterable[tuple[_Place, float]]) -> _Scored:
    """By score, and equal ones by document and place."""
    return sorted(scored, key=lambda each: (-each[1], each[0][0], each[0][1] or (0, 0)))
