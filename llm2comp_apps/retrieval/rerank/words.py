r"""The words of the best hits, compared with each other: no model, and a few milliseconds.

The query's words are weighed anew among the candidates, see :mod:`.hit_words`. And the first hit :math:`D_1` says in
its own words what the query may have said in others, so its words are asked for, too:

.. math:: w_t = q_t + \lambda \, |q| \, p(t \mid D_1)

Sources: words of a hit that is taken for an answer from Lavrenko and Croft, "Relevance-Based Language Models", SIGIR
2001, mixed with the query's as in RM3 (Abdul-Jaleel et al., TREC 2004), with a single hit: for a query with one answer,
the second is already about something else. Numbers and share were chosen on train queries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from llm2comp_indexes import DEFAULT_LANGUAGE, query_terms

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.retrieval.rerank.hit_words import HitWords, feedback
from llm2comp_apps.retrieval.rerank.protocol import Passage

__all__ = ["OF_FIRST", "WordsReranker"]

OF_FIRST = 0.5
"""Weight of all words of the first hit beside all of the query's."""


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
        texts = [each.content for each in passages]
        asked, words = query_terms(query, self._language), HitWords(texts, self._language)
        scores = words.scores(asked)
        if not len(scores) or not asked:
            return scores
        rows = range(len(texts))  # of equal ones the same, in whatever order they come
        first = 0 if self._ordered else max(rows, key=lambda row: (scores[row], texts[row]))
        theirs = feedback(asked, words.told_by(first))
        return words.scores(Counter(asked) + Counter({term: OF_FIRST * often for term, often in theirs.items()}))
