"""Exact search over float16 rows: blocks are widened to float32, multiplied, and only what can still win is kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm2comp_indexes.errors import InputError
from llm2comp_indexes.segment import Segment
from llm2comp_indexes.types import Float16Array, Float32Array, Int64Array

__all__ = ["TopDocuments", "as_matrix", "normalised", "scan", "select"]

BLOCK_ROWS = 2048  # 4.5 MiB of float32 at width 576: stays in cache between widening and product
_POOL = 200_000  # candidates kept before the losers are thrown out


def as_matrix(vectors: npt.ArrayLike, dimension: int, what: str) -> Float32Array:
    """Check that ``vectors`` is a finite (n, d) matrix of the index's width.

    Raises:
        InputError: it is not.
    """
    matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    if matrix.ndim != 2 or matrix.shape[1] != dimension:
        raise InputError(f"{what}: shape {matrix.shape} where (n, {dimension}) is needed; another encoder made them?")
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        raise InputError(f"{what}: row {int(np.flatnonzero(~finite)[0])} holds NaN or infinity")
    return matrix


def normalised(matrix: Float32Array, what: str) -> Float32Array:
    """Rows scaled to length 1.

    Raises:
        InputError: a row is all zeros, so that it has no direction.
    """
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not norms.all():
        raise InputError(f"{what}: row {int(np.flatnonzero(norms == 0)[0])} is all zeros and has no cosine")
    return (matrix / norms).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best rows of one query, best first, one per document.

    Attributes:
        rows: (n,) row numbers, counted over all segments.
        scores: (n,) float32.
    """

    rows: Int64Array
    scores: Float32Array


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

    def add_candidates(self, query: int, rows: Int64Array, scores: Float32Array) -> None:
        """Offer rows of one query."""
        self._parts.append((np.full(len(rows), query, dtype=np.int64), rows, scores))
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
        return [
            Ranking(self._row[start:stop], self._score[start:stop])
            for start, stop in itertools.pairwise(bounds.tolist())
        ]


def _first_of_each(query: Int64Array, num: Int64Array) -> Int64Array:
    """Positions, ascending, of the first row of each (query, document) pair."""
    order = np.lexsort((num, query))  # stable, so that the best row of a pair comes first
    q, n = query[order], num[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (q[1:] != q[:-1]) | (n[1:] != n[:-1])
    return np.sort(order[first])


def scan(queries: Float32Array, parts: Iterable[tuple[Int64Array, Float16Array]], top: TopDocuments) -> None:
    """Score every row of ``parts`` (row numbers and their vectors) against ``queries`` (q, d)."""
    wide = np.empty((BLOCK_ROWS, queries.shape[1]), dtype=np.float32)
    for rows, vectors in parts:
        block = wide[: len(rows)]
        np.copyto(block, vectors)
        top.add(rows, queries @ block.T)


def select(
    segments: Sequence[Segment], allowed: npt.NDArray[np.bool_] | None
) -> Iterator[tuple[Int64Array, Float16Array]]:
    """Blocks of all rows, or of the ``allowed`` ones (a mask over all segments).

    A block with few allowed rows is gathered, one with many is read whole and then thinned.
    """
    base = 0
    for segment in segments:
        size = len(segment.nums)
        if allowed is None:
            for start in range(0, size, BLOCK_ROWS):
                stop = min(start + BLOCK_ROWS, size)
                yield np.arange(base + start, base + stop), segment.vectors.slice(start, stop)
        else:
            rows = np.flatnonzero(allowed[base : base + size])
            for start in range(0, len(rows), BLOCK_ROWS):
                part = rows[start : start + BLOCK_ROWS]
                yield base + part, segment.vectors.take(part)
        base += size
