"""What is known of each hit of a hybrid search, as numbers from which its place can be learned.

Three sources: the first search, the words of the hits (:mod:`.hit_words`), and how near the hits are to each other, by
their vectors and by their words. That hits near other good hits are likelier to be answers is the cluster hypothesis
(van Rijsbergen, "Information Retrieval", 1979, chapter 3), and a score smoothed over them is that of Diaz,
"Regularizing Ad Hoc Retrieval Scores", CIKM 2005.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from llm2comp_indexes import query_terms, terms

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.retrieval.rerank.hit_words import HitWords, feedback
from llm2comp_apps.retrieval.rerank.protocol import FirstSearch, Passage
from llm2comp_apps.retrieval.rerank.words import OF_FIRST

__all__ = ["FEATURES", "features", "scaled"]

FEATURES = (
    "first search",
    "cosine",
    "cosine, scaled",
    "BM25",
    "words",
    "words of the query",
    "words of the first",
    "near the first",
    "near the first, scaled",
    "near the first by words",
    "neighbours",
    "neighbours by words",
    "near the best",
    "near the best by words",
    "covered",
    "covered by the title",
    "window",
    "pairs",
)
"""Names of the columns of :func:`features`."""

_NEIGHBOURS, _TEMPERATURE = 8, 0.15
_BEST, _STEEP = 10, 8.0
_WINDOW = 40
"""Terms that stand together."""

_Array = npt.NDArray[np.float64]


def features(query: str, passages: Sequence[Passage], first: FirstSearch, language: str) -> FloatArray:
    """Features of hits ``(n, len(FEATURES))``; those that are compared within a query are scaled to [0, 1].

    Args:
        query: what was asked.
        passages: of the hits, best first.
        first: what the search that found them knows.
        language: of their words, as the lexical index takes it.
    """
    words = HitWords([each.content for each in passages], language)
    asked = query_terms(query, language)
    own = words.scores(asked).astype(np.float64)
    theirs = words.scores(feedback(asked, words.told_by(0))).astype(np.float64)
    scores = scaled(first.scores)
    near, near_words = first.vectors @ first.vectors.T, _likeness(words)
    best = np.exp(_STEEP * (scores[:_BEST] - 1))
    best /= best.sum()
    matches = _Matches(query, asked, words, language)
    columns = (
        scores,
        first.cosines,
        scaled(first.cosines),
        scaled(first.bm25),
        scaled(own + OF_FIRST * theirs),
        scaled(own),
        scaled(theirs),
        near[:, 0],
        scaled(near[:, 0]),
        scaled(near_words[:, 0]),
        scaled(_smoothed(near, scores)),
        scaled(_smoothed(near_words, scores)),
        scaled(near[:, :_BEST] @ best),
        scaled(near_words[:, :_BEST] @ best),
        matches.covered(words.often),
        matches.covered([set(terms(each.title, language)) for each in passages]),
        scaled(matches.windows()),
        matches.pairs(),
    )
    return np.stack(columns, axis=1).astype(np.float32)


def scaled(values: npt.ArrayLike) -> _Array:
    """Values brought to [0, 1]; equal ones are all 1."""
    given = np.asarray(values, dtype=np.float64)
    low, high = given.min(), given.max()
    return (given - low) / (high - low) if high > low else np.ones_like(given)


def _likeness(words: HitWords) -> _Array:
    """Cosines ``(n, n)`` of the hits as bags of words, weighed by rarity."""
    places: dict[str, int] = {}
    for each in words.often:
        for term in each:
            if words.having(term) > 1:
                places.setdefault(term, len(places))
    rows = np.zeros((len(words.often), len(places)), dtype=np.float32)
    rarity = np.array([words.rarity(term) for term in places], dtype=np.float32)
    for row, each in zip(rows, words.often, strict=True):
        shared = [(places[term], count) for term, count in each.items() if term in places]
        if shared:
            columns, counts = zip(*shared, strict=True)
            row[list(columns)] = 1 + np.log(counts)
    rows *= rarity
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return (rows @ rows.T).astype(np.float64)


def _smoothed(near: npt.NDArray[np.floating], scores: _Array) -> _Array:
    """The mean score of each hit's nearest neighbours, the nearest counting most; its own where it has none."""
    if len(scores) < 2:
        return scores
    others = near.astype(np.float64)
    np.fill_diagonal(others, -np.inf)
    few = min(_NEIGHBOURS, len(scores) - 1)
    nearest = np.argsort(-others, axis=1, kind="stable")[:, :few]
    likeness = np.take_along_axis(others, nearest, axis=1)
    weights = np.exp((likeness - likeness[:, :1]) / _TEMPERATURE)
    smoothed: _Array = (weights * scores[nearest]).sum(axis=1) / weights.sum(axis=1)
    return smoothed


class _Matches:
    """Where the words of a query stand in the hits, each weighed by its rarity among them."""

    def __init__(self, query: str, asked: Mapping[str, float], words: HitWords, language: str) -> None:
        self._weights = {term: weight * words.rarity(term) for term, weight in asked.items()}
        self._whole = sum(self._weights.values()) or 1.0
        self._found = [
            [(place, term) for place, term in enumerate(said) if term in self._weights] for said in words.said
        ]
        side_by_side = pairwise(terms(query, language))
        self._pairs = {pair: min(map(words.rarity, pair)) for pair in side_by_side if {*pair} <= asked.keys()}

    def covered(self, held: Sequence[Mapping[str, int] | set[str]]) -> _Array:
        """The share of the query ``(n,)`` that sets of terms hold."""
        return np.array([sum(w for term, w in self._weights.items() if term in each) / self._whole for each in held])

    def windows(self) -> _Array:
        """The most of the query ``(n,)`` that stands within 40 terms."""
        return np.array([self._window(found) for found in self._found])

    def _window(self, found: Sequence[tuple[int, str]]) -> float:
        counts, held, most, start = dict.fromkeys(self._weights, 0), 0.0, 0.0, 0
        for place, term in found:
            held += self._weights[term] if not counts[term] else 0.0
            counts[term] += 1
            while found[start][0] <= place - _WINDOW:
                gone = found[start][1]
                counts[gone] -= 1
                held -= self._weights[gone] if not counts[gone] else 0.0
                start += 1
            most = max(most, held)
        return most

    def pairs(self) -> _Array:
        """How many of the query's pairs of words ``(n,)`` stand side by side, weighed as a share of the query."""
        return np.array([self._side_by_side(found) / self._whole for found in self._found])

    def _side_by_side(self, found: Sequence[tuple[int, str]]) -> float:
        pairs = {(a, b) for (i, a), (j, b) in pairwise(found) if j == i + 1}
        return math.fsum(self._pairs[pair] for pair in pairs & self._pairs.keys())
