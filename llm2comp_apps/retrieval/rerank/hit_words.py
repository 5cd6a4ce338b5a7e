r"""The candidates of a search as bags of words, in which a word is rare if few of the candidates have it.

.. math:: s(w, D) = \sum_t w_t \, \operatorname{idf}_C(t) \frac{(k_1 + 1) f_{tD}}{f_{tD} + k_1 (1 - b + b |D| /
    \bar{n})}

A first search weighs words by how rare they are among all documents. Among its best hits C, which are about the same
thing, other words tell one from another. Source: BM25 as everywhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from llm2comp_indexes import function_words, terms

from llm2comp_apps.encoder.protocol import FloatArray

__all__ = ["HitWords", "feedback"]

_K1, _B = 1.2, 0.75
_CHARACTERS = 40_000
"""Characters of a passage that are read: a hundred books would take minutes, and their beginnings say what they are."""
_MOST = 60
"""Words of a hit that are asked for."""
_SHORTEST = 3
"""Letters of a word of a hit that says something."""


class HitWords:
    """Candidates as bags of words.

    Args:
        texts: of the candidates.
        language: of their words, as the lexical index takes it.

    Attributes:
        said: the terms of each candidate, in their order.
        often: how often it says each.
    """

    def __init__(self, texts: Sequence[str], language: str) -> None:
        self._texts, self._language = [text[:_CHARACTERS] for text in texts], language
        self.said = [terms(text, language) for text in self._texts]
        self.often = [Counter(each) for each in self.said]
        self._having = Counter(term for each in self.often for term in each)
        self.sizes = np.array([len(each) for each in self.said], dtype=np.float64)
        self._norms = _K1 * (1 - _B + _B * self.sizes / max(self.sizes.mean() if len(self.sizes) else 0.0, 1.0))

    def having(self, term: str) -> int:
        """How many candidates have a term."""
        return self._having[term]

    def rarity(self, term: str) -> float:
        """The inverse frequency of a term among the candidates."""
        having = self._having[term]
        return math.log(1 + (len(self.said) - having + 0.5) / (having + 0.5))

    def scores(self, weights: Mapping[str, float]) -> FloatArray:
        """BM25 of each candidate ``(n,)`` for weighed terms."""
        worth = {term: weight * self.rarity(term) * (_K1 + 1) for term, weight in weights.items()}
        found = np.zeros(len(self.said), dtype=np.float32)
        for row, (each, norm) in enumerate(zip(self.often, self._norms.tolist(), strict=True)):
            found[row] = sum(value * each[term] / (each[term] + norm) for term, value in worth.items() if term in each)
        return found

    def told_by(self, row: int) -> dict[str, float]:
        """Words that say what a candidate is about, as often as it has them: those that count most among all."""
        empty = function_words(self._texts[row], self._language)
        often = Counter(
            term
            for term, says_nothing in zip(self.said[row], empty, strict=True)
            if not says_nothing and len(term) >= _SHORTEST
        )
        shared = {term: float(count) for term, count in often.items() if self._having[term] > 1}
        return dict(sorted(shared.items(), key=lambda pair: (-pair[1] * self.rarity(pair[0]), pair[0]))[:_MOST])


def feedback(asked: Mapping[str, float], told: Mapping[str, float]) -> dict[str, float]:
    """What a candidate tells, asked for with the weight of the whole query.

    Source: Lavrenko and Croft, "Relevance-Based Language Models", SIGIR 2001, with a single document.

    Args:
        asked: the terms of the query, weighed.
        told: see :meth:`HitWords.told_by`.
    """
    total = sum(told.values())
    share = sum(asked.values()) / total if total else 0.0
    return {term: share * often for term, often in told.items()}
