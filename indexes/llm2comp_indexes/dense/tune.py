"""Choosing search parameters on held-out rows, against exact search.

The held-out rows are queries that the index does not contain while it is tuned: a row that is in a graph or a list
finds its own neighbourhood too easily. They are inserted afterwards. The recall that is reported is the one that was
measured at the chosen setting; queries of another distribution (short questions, long documents) may see less.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from llm2comp_indexes.dense.ann import AnnIndex
from llm2comp_indexes.dense.exact import all_rows, rescore, scan, some_rows
from llm2comp_indexes.dense.topk import TopDocuments
from llm2comp_indexes.storage.checked import CheckedRows
from llm2comp_indexes.types import Float32Array, Int64Array

__all__ = ["HELD_OUT", "Choice", "exact_speed", "exact_top", "tune"]

HELD_OUT: Final = 400  # rows; recall@10 on half of them has a standard error below 0.01
_K: Final = 10
_WIDENINGS: Final = (1, 2, 4, 8, 16, 32)  # candidates per wanted document
_BATCH: Final = 100
_PLATEAU: Final = 0.002  # gain in recall from doubling the parameter below which it has no more to give


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting of an index and what was measured with it.

    Attributes:
        value: of the search parameter.
        widening: candidates fetched for each wanted row, before exact scoring.
        recall: recall@10 against exact search on the held-out rows.
        queries_per_second: in batches of 100.
        latency_ms: of a single query.
    """

    value: int
    widening: int
    recall: float
    queries_per_second: float
    latency_ms: float

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def exact_top(vectors: CheckedRows, queries: Float32Array, rows: Int64Array) -> Int64Array:
    """(q, 10) the nearest of ``rows`` to each query."""
    top = TopDocuments(len(queries), _K, np.arange(len(vectors)))
    scan(queries, some_rows(vectors, rows), top)
    return np.stack([ranking.rows for ranking in top.rankings()])


def exact_speed(vectors: CheckedRows, queries: Float32Array) -> float:
    """Queries per second of exact search, in batches of 100."""

    def search() -> None:
        scan(batch, all_rows(vectors), TopDocuments(len(batch), _K, np.arange(len(vectors))))

    batch = queries[:_BATCH]
    return len(batch) / _seconds(search)


def tune(ann: AnnIndex, vectors: CheckedRows, queries: Float32Array, truth: Int64Array, target: float) -> Choice:
    """The fastest setting that reaches ``target`` on both halves of the queries; the best one if none does.

    A longer list of candidates can only lower the value that the search parameter needs, so each list length starts
    from the lowest value and stops at the value that a shorter list already needed.
    """
    reached: list[tuple[int, int, float]] = []
    best = (0, 1, 0.0)
    values = _values(ann)
    for widening in _WIDENINGS:
        previous = 0.0
        for position, value in enumerate(values):
            recall = _recall(ann, vectors, queries, truth, value, widening)
            mean = float(recall.mean())
            if recall.min() >= target:
                reached.append((value, widening, mean))
                values = values[:position]
                break
            best = max(best, (value, widening, mean), key=lambda choice: choice[2])
            if mean - previous < _PLATEAU and previous:
                break  # what is missing was lost to quantisation; a longer list brings it back, a higher value does not
            previous = mean
        if not values:
            break
    measured = [_measure(ann, vectors, queries, *choice) for choice in reached or [best]]
    return max(measured, key=lambda choice: choice.queries_per_second)


def _values(ann: AnnIndex) -> list[int]:
    if ann.parameter is None:
        return [0]
    values = [1 if ann.parameter == "nprobe" else 16]
    while values[-1] * 2 < ann.most:
        values.append(values[-1] * 2)
    return values if values[-1] == ann.most else [*values, ann.most]


def _recall(
    ann: AnnIndex, vectors: CheckedRows, queries: Float32Array, truth: Int64Array, value: int, widening: int
) -> Float32Array:
    """Recall@10 of the first and of the second half of the queries."""
    rows = ann.candidates(queries, _K * widening, value)
    best = np.argsort(-rescore(vectors, queries, rows), axis=1)[:, :_K]
    found = np.take_along_axis(rows, best, axis=1)
    hits = (found[:, :, None] == truth[:, None, :]).any(axis=1).mean(axis=1)
    middle = len(hits) // 2
    return np.array([hits[:middle].mean(), hits[middle:].mean()], dtype=np.float32)


def _measure(
    ann: AnnIndex, vectors: CheckedRows, queries: Float32Array, value: int, widening: int, recall: float
) -> Choice:
    def search(batch: Float32Array) -> None:
        rescore(vectors, batch, ann.candidates(batch, _K * widening, value))

    batch = queries[:_BATCH]
    speed = len(batch) / _seconds(lambda: search(batch))
    return Choice(value, widening, recall, speed, 1000 * _seconds(lambda: search(batch[:1])))


def _seconds(action: Callable[[], None], runs: int = 3) -> float:
    """The best of a few runs: the others measure what else the machine was doing."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)
