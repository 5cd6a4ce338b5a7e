r"""The words of the best hits, compared with each other: no model, and a few milliseconds.

.. math:: s(q, D) = \sum_t w_t \, \operatorname{idf}_C(t) \frac{(k_1 + 1) f_{tD}}{f_{tD} + k_1 (1 - b + b |D| /
    \bar{n})}, \quad w_t = q_t + \lambda \, |q| \, p(t \mid D_1)

A first search weighs words by how rare they are among all documents. Among its best hits, which are about the same
thing, other words tell one from another: here a word is rare if few of the candidates C have it. And the first hit
:math:`D_1` says in its own words what the query may have said in others, so its words are asked for, too.

Sources: BM25 as everywhere; words of a hit that is taken for an answer from Lavrenko and Croft, "Relevance-Based
Language Models", SIGIR 2001, mixed with the query's as in RM3 (Abdul-Jaleel et al., TREC 2004), with a single hit: for
a query with one answer, the second is already about something else. Numbers and share were chosen on train queries.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from llm2comp_indexes import DEFAULT_LANGUAGE, function_words, query_terms, terms

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.retrieval.rerank.protocol import Passage

__all__ = ["WordsReranker"]

_K1, _B = 1.2, 0.75
_OF_FIRST = 0.5
"""Weight of all words of the first hit beside all of the query's."""
_MOST = 60
"""Words of the first hit that are asked for."""
_CHARACTERS = 40_000
"""Characters of a passage that are read: a hundred books would take minutes, and their beginnings say what they are."""
_SHORTEST = 3
"""Letters of a word of the first hit that says something."""


class WordsReranker:
    """Scores passages by the words that tell them apart.

    Args:
        language: of their words, as the lexical index takes it.
        ordered: the passages come best first, so that the first is taken for an answer; otherwise that is the one with
            most of the query's words.
    """

    share = 0.5
    """Weight beside the first search, which knows what is rare among all documents, and meaning."""
    compares_all = True
    """A score depends on all passages; they cannot be read in portions."""

    def __init__(self, language: str = DEFAULT_LANGUAGE, *, ordered: bool = True) -> None:
        self._language, self._ordered = language, ordered

    def score(self, query: str, passages: Sequence[Passage]) -> FloatArray:
        """See :class:`Reranker`; a sum over words, at least 0."""
        texts = [each.content[:_CHARACTERS] for each in passages]
        read = [Counter(terms(text, self._language)) for text in texts]
        asked, pool = query_terms(query, self._language), _Pool(read)
        scores = pool.scores(asked)
        if not len(scores) or not asked:
            return scores
        rows = range(len(texts))  # of equal ones the same, in whatever order they come
        first = 0 if self._ordered else max(rows, key=lambda row: (scores[row], texts[row]))
        theirs = self._told_by(texts[first], pool)
        total = sum(theirs.values())
        share = _OF_FIRST * sum(asked.values()) / total if total else 0.0
        return pool.scores(Counter(asked) + Counter({term: share * often for term, often in theirs.items()}))

    def _told_by(self, text: str, pool: _Pool) -> dict[str, float]:
        """Words that say what a text is about, as often as it has them: those that count most among all."""
        said, empty = terms(text, self._language), function_words(text, self._language)
        often = Counter(
            term for term, says_nothing in zip(said, empty, strict=True) if not says_nothing and len(term) >= _SHORTEST
        )
        shared = {term: float(count) for term, count in often.items() if pool.having[term] > 1}
        return dict(sorted(shared.items(), key=lambda pair: (-pair[1] * pool.rarity(pair[0]), pair[0]))[:_MOST])


class _Pool:
    """Candidates as bags of words."""

    def __init__(self, read: Sequence[Mapping[str, int]]) -> None:
        self._read = read
        self.having = Counter(term for each in read for term in each)
        self._sizes = [sum(each.values()) for each in read]
        self._mean = max(sum(self._sizes) / max(len(read), 1), 1.0)

    def rarity(self, term: str) -> float:
        """The inverse frequency of a term among the candidates."""
        having = self.having[term]
        return math.log(1 + (len(self._read) - having + 0.5) / (having + 0.5))

    def scores(self, weights: Mapping[str, float]) -> FloatArray:
        """BM25 of each candidate ``(n,)`` for weighed terms."""
        worth = {term: weight * self.rarity(term) * (_K1 + 1) for term, weight in weights.items()}
        found = np.zeros(len(self._read), dtype=np.float32)
        for row, (each, size) in enumerate(zip(self._read, self._sizes, strict=True)):
            norm = _K1 * (1 - _B + _B * size / self._mean)
            found[row] = sum(value * each[term] / (each[term] + norm) for term, value in worth.items() if term in each)
        return found
