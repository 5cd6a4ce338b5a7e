"""Exact refinement of candidates, in FAISS's own loops over float16."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from llm2comp_indexes.dense.faiss_module import import_faiss
from llm2comp_indexes.dense.topk import Ranking, best_of_each_sorted, best_of_sorted
from llm2comp_indexes.storage.checked import CheckedRows
from llm2comp_indexes.types import Float16Array, Float32Array, Int64Array

if TYPE_CHECKING:
    import faiss

__all__ = ["Refiner"]


class Refiner(threading.local):
    """Scores queries against some rows each and sorts them: FAISS reads float16 as it is stored, and sorts as it goes.

    The rows of one query are copied into the memory of a small flat FAISS index, over those of the query before, and
    stay there until the next. NumPy would have to widen them, in a dozen calls; single queries would wait for each. A
    query's scores do not depend on the queries around it.

    Args:
        dimension: width of a row.
    """

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._index: faiss.IndexScalarQuantizer
        self._memory: Float16Array = np.empty((0, dimension), dtype=np.float16)

    def _resize(self, rows: int) -> None:
        faiss = import_faiss()
        float16 = faiss.ScalarQuantizer.QT_fp16
        self._index = faiss.IndexScalarQuantizer(self._dimension, float16, faiss.METRIC_INNER_PRODUCT)
        self._index.add_sa_codes(np.zeros((rows, self._index.code_size), dtype=np.uint8))
        codes = faiss.rev_swig_ptr(self._index.codes.data(), rows * self._index.code_size)
        self._memory = codes.view(np.float16).reshape(rows, self._dimension)

    def _trusted(self, vectors: CheckedRows, rows: Int64Array) -> tuple[Float16Array, Float16Array]:
        """Where to take rows from, and where to put those of a query."""
        if rows.shape[-1] != len(self._memory):
            self._resize(rows.shape[-1])
        return vectors.checked(rows), self._memory

    def best(self, query: Float32Array, vectors: CheckedRows, rows: Int64Array, k: int) -> Ranking:
        """The k best of one query's candidates, where every document has one row; in the fewest calls.

        Args:
            query: (1, d).
            vectors: of the segment.
            rows: (c,) candidates, none of them -1.
            k: documents wanted.
        """
        array, memory = self._trusted(vectors, rows)
        array.take(rows, 0, memory, "clip")
        scores, places = self._index.search(query, len(rows))
        return best_of_sorted(rows.take(places[0]), scores[0], k)

    def best_of_each(
        self, queries: Float32Array, vectors: CheckedRows, candidates: Int64Array, k: int
    ) -> list[Ranking]:
        """The same for many queries.

        Args:
            queries: (q, d).
            vectors: of the segment.
            candidates: (q, c) rows, -1 for none.
            k: documents wanted.
        """
        present = np.maximum(candidates, 0)  # the first row stands in for none
        array, memory = self._trusted(vectors, present)
        scores, places = np.empty(candidates.shape, dtype=np.float32), np.empty_like(candidates)
        for query, rows, *found in zip(queries[:, None], present, scores[:, None], places[:, None], strict=True):
            array.take(rows, 0, memory, "clip")
            self._index.search(query, len(rows), D=found[0], I=found[1])
        sorted_rows = candidates.take(places + np.arange(0, candidates.size, len(memory))[:, None])
        return best_of_each_sorted(sorted_rows, scores, k)
