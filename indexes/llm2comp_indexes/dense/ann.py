"""FAISS indexes as proposers of candidates.

Three things differ from plain FAISS use. Bytes are written through a callback into our own file writer, since FAISS's
file I/O reports success on a full disk. Search parameters are passed with each call and never set on the shared index.
And FAISS numbers are positions in the order of insertion: held-out rows, on which the index was tuned, come last.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from llm2comp_indexes.dense import gpu
from llm2comp_indexes.dense.faiss_module import import_faiss, telling_part, write_faiss
from llm2comp_indexes.dense.kinds import KINDS
from llm2comp_indexes.errors import DependencyError, KindError
from llm2comp_indexes.storage import fs
from llm2comp_indexes.storage.checked import CheckedRows, difference
from llm2comp_indexes.storage.fs import FileRecord
from llm2comp_indexes.storage.store import SegmentRecord
from llm2comp_indexes.types import Float32Array, Int64Array

if TYPE_CHECKING:
    import faiss

__all__ = ["ANN", "AnnIndex", "empty_index", "insertion_order"]

ANN: Final = "ann.faiss"

_BLOCK_ROWS: Final = 16_384
_TRAINING_ROWS: Final = 50  # for each list of an IVF; FAISS asks for at least 39
_LEAST_TRAINING_ROWS: Final = 20_000  # for quantisers without lists
_MOST_EF_SEARCH: Final = 4096
_TUNED_COUNT: Final = 10  # documents for which the search parameter was tuned


def insertion_order(rows: int, held_out: Int64Array) -> Int64Array:
    """Row of each FAISS number: all rows in their order, but the held-out ones last."""
    return np.concatenate([np.delete(np.arange(rows), held_out), held_out])


def empty_index(factory: str, dimension: int) -> faiss.Index:
    """What FAISS makes of a factory string.

    Raises:
        KindError: it makes nothing of it, or what it makes does not belong here.
    """
    faiss = import_faiss()
    try:
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise KindError(
            f"{factory!r}: FAISS cannot make it for width {dimension}: {telling_part(error)}; "
            f"kinds are {', '.join(KINDS)} and FAISS factory strings",
            field="kind",
        ) from error
    for part in _parts(index):
        if isinstance(part, faiss.IndexIDMap | faiss.IndexRefine):
            raise KindError(f"{factory!r}: leave IDMap and refinement out, the index does both itself", field="kind")
        # Some vectors make FAISS abort the process while it builds such a graph, others never let it end.
        if isinstance(part, faiss.IndexNSG | faiss.IndexNNDescent):
            raise KindError(f"{factory!r}: graphs of NSG cannot be built safely; take HNSW in its place", field="kind")
    return index


def _parts(index: faiss.Index) -> Iterator[faiss.Index]:
    """An index by its own type, those behind its transforms, and those that choose its lists."""
    part = import_faiss().downcast_index(index)
    yield part
    for name in ("index", "quantizer"):
        if inner := getattr(part, name, None):
            yield from _parts(inner)


class AnnIndex:
    """A FAISS index over the rows of one segment.

    Args:
        index: the FAISS index.
        order: (rows,) row of each FAISS number.

    Attributes:
        parameter: name of the knob that trades recall for speed; None where there is none.
        most: the largest value of it that makes sense.
    """

    def __init__(self, index: faiss.Index, order: Int64Array) -> None:
        self.index = index
        self._row_of = np.append(order, -1)  # FAISS's number for none is -1, which picks the -1
        self._order = self._row_of[:-1]
        self._selects = True
        self._value = self._widening = 1
        self._faiss = faiss = import_faiss()
        outer = faiss.downcast_index(index)
        self._wrapped = isinstance(outer, faiss.IndexPreTransform)
        self._inner = faiss.downcast_index(outer.index) if self._wrapped else outer
        steps = outer.chain.size() if self._wrapped else 0
        self._transforms = [faiss.downcast_VectorTransform(outer.chain.at(step)) for step in range(steps)]
        self.parameter = self._knob()
        self.most = int(self._inner.nlist) if self.parameter == "nprobe" else _MOST_EF_SEARCH
        self._unfiltered: dict[int, Any] = {}  # search parameters by value: making them takes as long as a short search

    @classmethod
    def train(
        cls, factory: str, vectors: CheckedRows, order: Int64Array, seed: int = 0, device: str = "cpu"
    ) -> AnnIndex:
        """Make an empty index and train it on a sample of the rows.

        Raises:
            KindError: FAISS does not know the factory string, or cannot train it.
        """
        index = empty_index(factory, vectors.array.shape[1])
        ann = cls(index, order)
        lists = getattr(ann._inner, "nlist", 0)
        size = min(len(order), max(_LEAST_TRAINING_ROWS, _TRAINING_ROWS * lists))
        sample = np.sort(np.random.default_rng(seed).choice(len(order), size, replace=False))
        rows = vectors.take(order[sample]).astype(np.float32)
        try:
            with gpu.clustering(index) if device == "cuda" else contextlib.nullcontext():
                index.train(rows)
        except RuntimeError as error:
            raise KindError(f"{factory!r}: cannot be trained: {telling_part(error)}", field="kind") from error
        return ann

    @classmethod
    def load(cls, directory: Path, record: SegmentRecord) -> tuple[AnnIndex | None, str | None]:
        """The index in a directory, or why it must not be used."""
        file = record.files[0]
        if reason := difference(directory / file.name, file):
            return None, reason
        order = insertion_order(record.rows, np.array(record.detail["held_out"], dtype=np.int64))
        try:
            ann = cls(import_faiss().read_index(os.fspath(directory / file.name)), order)
        except (RuntimeError, DependencyError) as error:
            return None, telling_part(error)
        ann._value, ann._widening = record.detail["value"], record.detail["widening"]
        return ann, None

    @classmethod
    def resident(cls, vectors: CheckedRows) -> AnnIndex:
        """A copy of all rows in memory, as they are; its candidates are exact."""
        faiss = import_faiss()
        float16 = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexScalarQuantizer(vectors.array.shape[1], float16, faiss.METRIC_INNER_PRODUCT)
        ann = cls(index, np.arange(len(vectors)))
        ann.add(vectors, 0, len(vectors))
        return ann

    def reach(self, count: int, widening: float) -> tuple[int, int]:
        """How many candidates to fetch for ``count`` rows, and with which search parameter.

        Args:
            count: rows wanted.
            widening: all rows divided by those that may be returned.
        """
        fetched = min(count * self._widening, len(self._order))
        value = min(math.ceil(self._value * widening * max(1.0, count / _TUNED_COUNT)), self.most)
        return fetched, value

    def add(self, vectors: CheckedRows, start: int, stop: int, device: str = "cpu") -> None:
        """Insert the rows of the FAISS numbers ``start`` to ``stop``, widened block by block."""
        faiss = import_faiss()
        lists = gpu.nearest_lists(self._inner) if device == "cuda" else None
        for first in range(start, stop, _BLOCK_ROWS):
            block = vectors.take(self._order[first : min(first + _BLOCK_ROWS, stop)]).astype(np.float32)
            if lists is None:
                self.index.add(block)
            else:
                for transform in self._transforms:
                    block = transform.apply(block)
                _, nearest = lists.search(block, 1)
                self._inner.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(nearest))
                self.index.ntotal = self._inner.ntotal

    def write(self, path: Path) -> FileRecord:
        """Write the FAISS file, durably.

        Raises:
            OSError: the operating system refused.
        """
        file = fs.FileWriter(path)
        try:
            write_faiss(self.index, file)
            return file.close()
        finally:
            file.abandon()

    def _knob(self) -> str | None:
        """Name of the parameter that trades recall for speed, if the index has one."""
        if isinstance(self._inner, self._faiss.IndexIVF):
            return "nprobe"
        return "efSearch" if isinstance(self._inner, self._faiss.IndexHNSW) else None

    def candidates(
        self, queries: Float32Array, count: int, value: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> Int64Array:
        """Rows that may be near each query.

        Args:
            queries: (q, d).
            count: rows wanted for each.
            value: of `parameter`.
            allowed: (rows,) mask; FAISS indexes that cannot select ignore it, so callers check again.

        Returns:
            (q, count) rows of the segment, -1 where FAISS found no more.
        """
        count = min(count, len(self._order))
        if allowed is None or not self._selects:
            if value not in self._unfiltered:
                self._unfiltered[value] = self._parameters(value, None)
            _, found = self.index.search(queries, count, params=self._unfiltered[value])
        else:
            bits = np.packbits(allowed[self._order], bitorder="little")
            selector = self._faiss.IDSelectorBitmap(len(self._order), self._faiss.swig_ptr(bits))
            try:
                _, found = self.index.search(queries, count, params=self._parameters(value, selector))
            except RuntimeError:  # this type of index cannot select
                self._selects = False
                return self.candidates(queries, count, value)
        return self._row_of[found]

    def _parameters(self, value: int, selector: Any) -> Any:
        """The parameter object that fits the type of index; None where FAISS takes none."""
        faiss, inner = self._faiss, self._inner
        options = {} if selector is None else {"sel": selector}
        if isinstance(inner, faiss.IndexIVFRaBitQ | faiss.IndexIVFRaBitQFastScan):
            parameters = faiss.IVFRaBitQSearchParameters(nprobe=value, **options)
        elif isinstance(inner, faiss.IndexIVFPQ):
            parameters = faiss.IVFPQSearchParameters(nprobe=value, **options)
        elif isinstance(inner, faiss.IndexIVF):
            parameters = faiss.SearchParametersIVF(nprobe=value, **options)
        elif isinstance(inner, faiss.IndexHNSW):
            parameters = faiss.SearchParametersHNSW(efSearch=value, **options)
        elif selector is None:
            return None
        elif isinstance(inner, faiss.IndexRaBitQ):
            parameters = faiss.RaBitQSearchParameters(**options)
        else:
            parameters = faiss.SearchParameters(**options)
        return faiss.SearchParametersPreTransform(index_params=parameters) if self._wrapped else parameters
