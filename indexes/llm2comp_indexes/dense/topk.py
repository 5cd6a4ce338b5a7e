"""The k best documents of many rows, for many queries at once."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from llm2comp_indexes.types import Float32Array, Int64Array

__all__ = ["Ranking", "TopDocuments", "best_of_each_sorted", "best_of_sorted"]

_POOL = 200_000  # candidates kept before the losers are thrown out


class Ranking(NamedTuple):
    """The best rows of one query, best first, one per document.

    Attributes:
        rows: row numbers, counted over all segments.
        scores: as many.
    """

    rows: list[int]
    scores: list[float]


def best_of_sorted(rows: Int64Array, scores: Float32Array, k: int) -> Ranking:
    """The k best of one query's candidates, where every document has one row.

    Args:
        rows: (c,) candidates.
        scores: (c,), descending; among equal ones the earlier row comes first in the ranking.
        k: documents wanted.
    """
    found, best = rows.tolist(), scores.tolist()
    compared = best[: k + 1]
    if len(set(compared)) == len(compared):
        return Ranking(found[:k], best[:k])
    pairs = sorted(zip(best, found, strict=True), key=lambda pair: (-pair[0], pair[1]))[:k]
    return Ranking([row for _, row in pairs], [score for score, _ in pairs])


def best_of_each_sorted(rows: Int64Array, scores: Float32Array, k: int) -> list[Ranking]:
    """The same for many queries: (q, c) each, and -1 where there is no candidate."""
    best = scores[:, : k + 1]
    if rows.item(rows.argmin()) >= 0 and not np.count_nonzero(best[:, 1:] == best[:, :-1]):  # half the time of `min`
        return [Ranking(*both) for both in zip(rows[:, :k].tolist(), best[:, :k].tolist(), strict=True)]
    there = rows >= 0
    return [best_of_sorted(r[kept], s[kept], k) for r, s, kept in zip(rows, scores, there, strict=True)]


class TopDocuments:
    """Keeps, for each query, the k best documents of all rows seen; a document counts by its best row.

    Args:
        queries: how many.
        k: documents wanted.
        nums: (rows,) document number of each row over all segments, ascending.
        most_rows: the largest number of rows that one document has.
    """

    def __init__(self, queries: int, k: int, nums: Int64Array, most_rows: int = 1) -> None:
        self._k = k
        self._nums = nums
        self._enough = k * most_rows  # this many rows hold k documents for certain
        self._threshold = np.full(queries, -np.inf, dtype=np.float32)
        self._query = np.empty(0, dtype=np.int64)
        self._row = np.empty(0, dtype=np.int64)
        self._score = np.empty(0, dtype=np.float32)
        self._parts: list[tuple[Int64Array, Int64Array, Float32Array]] = []
        self._pending = 0

    def add(self, rows: Int64Array, scores: Float32Array) -> None:
        """Offer ``rows`` (m,), ascending from call to call, with ``scores`` (queries, m).

        Among equal scores the earlier row wins, hence the strict comparison.
        """
        keep = scores > self._threshold[:, None]
        if len(rows) > self._enough and np.isneginf(self._threshold).any():
            cut = len(rows) - self._enough
            keep &= scores >= np.partition(scores, cut, axis=1)[:, cut : cut + 1]
        query, column = np.nonzero(keep)
        if len(query):
            self._parts.append((query, rows[column], scores[query, column]))
            self._pending += len(query)
        if self._pending > max(_POOL, 4 * len(self._query)) or np.isneginf(self._threshold).any():
            self._reduce()

    def add_candidates(self, query: Int64Array, rows: Int64Array, scores: Float32Array) -> None:
        """Offer rows (n,), each to the query of the same position."""
        self._parts.append((query, rows, scores))
        self._pending += len(rows)

    def _reduce(self) -> None:
        if not self._parts:
            return
        query = np.concatenate([self._query, *(part[0] for part in self._parts)])
        row = np.concatenate([self._row, *(part[1] for part in self._parts)])
        score = np.concatenate([self._score, *(part[2] for part in self._parts)])
        self._parts, self._pending = [], 0
        order = np.lexsort((row, -score, query))
        if self._enough > self._k:
            order = order[_first_of_each(query[order], self._nums[row[order]])]
        query, row, score = query[order], row[order], score[order]
        starts = np.searchsorted(query, np.arange(len(self._threshold)))
        rank = np.arange(len(query)) - starts[query]
        kept = rank < self._k
        self._threshold[query[rank == self._k - 1]] = score[rank == self._k - 1]
        self._query, self._row, self._score = query[kept], row[kept], score[kept]

    def rankings(self) -> list[Ranking]:
        """The result so far."""
        self._reduce()
        bounds = np.searchsorted(self._query, np.arange(len(self._threshold) + 1))
        rows, scores = self._row.tolist(), self._score.tolist()
        return [Ranking(rows[start:stop], scores[start:stop]) for start, stop in itertools.pairwise(bounds.tolist())]


def _first_of_each(query: Int64Array, num: Int64Array) -> Int64Array:
    """Positions, ascending, of the first row of each (query, document) pair."""
    order = np.lexsort((num, query))  # stable, so that the best row of a pair comes first
    q, n = query[order], num[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (q[1:] != q[:-1]) | (n[1:] != n[:-1])
    return np.sort(order[first])
