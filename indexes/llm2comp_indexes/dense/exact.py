"""Exact scores from the float16 rows themselves: all of them, some of them, or a list of candidates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from llm2comp_indexes.dense.topk import TopDocuments
from llm2comp_indexes.dense.vectors import widen
from llm2comp_indexes.storage.checked import CheckedRows
from llm2comp_indexes.types import Float16Array, Float32Array, Int64Array

__all__ = ["BLOCK_ROWS", "all_rows", "rescore", "scan", "some_rows"]

BLOCK_ROWS: Final = 1024
"""2.3 MiB of float32 at width 576: stays in cache between widening and product."""

_CANDIDATES: Final = 256  # fewer, since each is gathered from elsewhere and used once


def all_rows(vectors: CheckedRows) -> Iterator[tuple[Int64Array, Float16Array]]:
    """Every row of a segment, block by block, with its row numbers."""
    for start in range(0, len(vectors), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(vectors))
        yield np.arange(start, stop), vectors.slice(start, stop)


def some_rows(vectors: CheckedRows, rows: Int64Array) -> Iterator[tuple[Int64Array, Float16Array]]:
    """The given rows (ascending), gathered block by block."""
    for start in range(0, len(rows), BLOCK_ROWS):
        part = rows[start : start + BLOCK_ROWS]
        yield part, vectors.take(part)


def scan(
    queries: Float32Array, blocks: Iterable[tuple[Int64Array, Float16Array]], top: TopDocuments, base: int = 0
) -> None:
    """Offer every row of ``blocks`` to ``top``, scored against ``queries`` (q, d).

    Args:
        queries: (q, d).
        blocks: row numbers (m,) and their vectors (m, d), m at most `BLOCK_ROWS`.
        top: takes the rows under the numbers ``base + row``.
        base: rows of the segments before this one.
    """
    wide = np.empty((BLOCK_ROWS, queries.shape[1]), dtype=np.float32)
    for rows, vectors in blocks:
        top.add(base + rows, queries @ widen(vectors, wide[: len(rows)]).T)


def rescore(vectors: CheckedRows, queries: Float32Array, candidates: Int64Array) -> Float32Array:
    """Exact scores of candidate rows.

    Args:
        vectors: of the segment.
        queries: (q, d).
        candidates: (q, c) rows, -1 for none.

    Returns:
        (q, c) inner products, -inf where there is no candidate.
    """
    complete = candidates.size > 0 and candidates.item(candidates.argmin()) >= 0  # half the time of `min`
    rows = candidates if complete else np.maximum(candidates, 0)  # the first row stands in for none
    width = min(candidates.shape[1], _CANDIDATES)
    queries_at_a_time = _CANDIDATES // max(1, width)
    wide = np.empty((min(len(candidates), queries_at_a_time) * width, queries.shape[1]), dtype=np.float32)
    scores = np.empty(candidates.shape, dtype=np.float32)
    for start in range(0, len(candidates), queries_at_a_time):
        stop = start + queries_at_a_time
        for left in range(0, candidates.shape[1], _CANDIDATES):
            right = left + _CANDIDATES
            part = rows[start:stop, left:right]
            block = widen(vectors.take(part.ravel()), wide[: part.size]).reshape(*part.shape, -1)
            np.matmul(block, queries[start:stop, :, None], out=scores[start:stop, left:right, None])
    if not complete:
        scores[candidates < 0] = -np.inf
    return scores
