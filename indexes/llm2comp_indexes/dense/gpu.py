"""What runs on GPUs when ``device="cuda"``, with the faiss-gpu wheel.

| step | on the GPU | on the CPU |
|---|---|---|
| training an IVF kind | k-means | the quantiser of the residuals |
| adding to an IVF kind | nearest list of each vector | encoding |
| building ``hnsw`` | CAGRA graph, where FAISS was built with cuVS | otherwise all of it |
| searching without a filter | exact scores in float16, rows dealt out over all GPUs | final scores of the candidates |
| searching with a filter | | all of it |

Whatever does not fit into GPU memory, or has no GPU form, runs on the CPU, and a log line says so. What is written to
disk is a CPU index in any case.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llm2comp_indexes.dense.faiss_module import import_faiss
from llm2comp_indexes.errors import DependencyError, InputError
from llm2comp_indexes.storage.checked import CheckedRows
from llm2comp_indexes.types import Float32Array, Int64Array

if TYPE_CHECKING:
    import faiss

__all__ = ["DEVICES", "GpuScanner", "build_cagra", "check_device", "clustering", "gpu_count", "nearest_lists"]

DEVICES: Final = ("cpu", "cuda")

_BLOCK_ROWS: Final = 65_536

_log = logging.getLogger(__name__)


def check_device(device: str) -> None:
    """Refuse a device that is unknown or not there.

    Raises:
        InputError: it is neither ``cpu`` nor ``cuda``.
        DependencyError: it is ``cuda``, and FAISS sees no GPU.
    """
    if device not in DEVICES:
        raise InputError(f"must be cpu or cuda, not {device!r}", field="device")
    if device == "cuda" and not gpu_count():
        raise DependencyError(
            "FAISS sees no GPU: `device=cuda` needs one, and the faiss-gpu wheel (pip install 'llm2comp-apps[gpu]')"
        )


def gpu_count() -> int:
    """How many GPUs FAISS sees; its CPU wheel sees none."""
    return int(import_faiss().get_num_gpus())


@contextmanager
def clustering(index: faiss.Index) -> Iterator[None]:
    """Let the k-means of an IVF index run on all GPUs while it is trained."""
    faiss = import_faiss()
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is None:
        _log.info("training runs on the CPU: the kind has no k-means")
        yield
        return
    try:
        assigner = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(ivf.d))
    except RuntimeError as error:
        _log.warning("k-means runs on the CPU: %s", error)
        yield
        return
    ivf.clustering_index = assigner
    _log.info("k-means runs on %d GPU(s)", gpu_count())
    try:
        yield
    finally:
        ivf.clustering_index = None  # it is not ours to save, and dies with this frame


def nearest_lists(index: Any) -> faiss.Index | None:
    """The coarse quantiser of an IVF index on all GPUs; None where the CPU has to assign vectors to lists.

    Args:
        index: downcast, and without the transforms that go before it.
    """
    faiss = import_faiss()
    plain = (faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFPQ, faiss.IndexIVFRaBitQ)
    if type(index) not in plain:
        _log.info("adding runs on the CPU: the kind has no plain lists")
        return None
    quantizer = faiss.downcast_index(index.quantizer)
    try:
        return faiss.index_cpu_to_all_gpus(quantizer)
    except RuntimeError as error:
        _log.warning("vectors are assigned to lists on the CPU: %s", error)
        return None


def build_cagra(vectors: CheckedRows, order: Int64Array) -> faiss.Index | None:
    """A CAGRA graph built on the GPU, as the CPU index that HNSW search runs on; None where that cannot be done.

    Args:
        vectors: of the segment.
        order: rows in the order of their FAISS numbers; all of them must fit into GPU memory as float16.
    """
    faiss = import_faiss()
    if "CUVS" not in faiss.get_compile_options():
        _log.info("the graph is built on the CPU: this FAISS has no cuVS")
        return None
    resources = faiss.StandardGpuResources()
    config = faiss.GpuIndexCagraConfig()
    config.graph_degree, config.intermediate_graph_degree = 32, 64
    try:
        graph = faiss.GpuIndexCagra(resources, vectors.array.shape[1], faiss.METRIC_INNER_PRODUCT, config)
        graph.train(vectors.take(order), numeric_type=faiss.Float16)
        return faiss.index_gpu_to_cpu(graph)
    except RuntimeError as error:
        _log.warning("the graph is built on the CPU: %s", error)
        return None


class GpuScanner:
    """Rows in GPU memory as float16, dealt out over all GPUs; proposes candidates by comparing every one.

    Args:
        parts: the vectors of each segment, and which of its rows count.
        dimension: of a vector.

    Raises:
        RuntimeError: GPU memory does not suffice (`open` turns that into None).
    """

    def __init__(self, parts: list[tuple[CheckedRows, Int64Array]], dimension: int) -> None:
        faiss = import_faiss()
        self._searching = threading.Lock()  # FAISS: one thread at a time may use the resources of a GPU
        bases = np.cumsum([0, *(len(vectors) for vectors, _ in parts)])
        self._rows: Int64Array = np.concatenate([base + rows for base, (_, rows) in zip(bases, parts, strict=False)])
        self._shards: list[tuple[Any, Any, int]] = []  # resources (kept alive), index, its first position in _rows
        share = -(-len(self._rows) // gpu_count())
        for device, start in enumerate(range(0, len(self._rows), max(1, share))):
            resources, config = faiss.StandardGpuResources(), faiss.GpuIndexFlatConfig()
            config.device, config.useFloat16 = device, True
            index = faiss.GpuIndexFlat(resources, dimension, faiss.METRIC_INNER_PRODUCT, config)
            self._shards.append((resources, index, start))
        position = 0
        for vectors, rows in parts:
            for first in range(0, len(rows), _BLOCK_ROWS):
                block = vectors.take(rows[first : first + _BLOCK_ROWS]).astype(np.float32)
                position = self._add(block, position, share)

    def _add(self, block: Float32Array, position: int, share: int) -> int:
        """Deal a block out to the shards that it falls into; returns the position after it."""
        while len(block):
            shard = position // share
            room = (shard + 1) * share - position
            self._shards[shard][1].add(np.ascontiguousarray(block[:room]))
            position += len(block[:room])
            block = block[room:]
        return position

    @classmethod
    def open(cls, parts: list[tuple[CheckedRows, Int64Array]], dimension: int) -> GpuScanner | None:
        """Fill the GPUs; None, with a log line, if their memory does not suffice."""
        rows = sum(len(kept) for _, kept in parts)
        size = 2 * rows * dimension / 2**20
        try:
            scanner = cls(parts, dimension)
        except RuntimeError as error:
            _log.warning("search runs on the CPU: %.0f MiB do not fit into GPU memory (%s)", size, error)
            return None
        _log.info("search runs on %d GPU(s), %.0f MiB of float16", len(scanner._shards), size)
        return scanner

    def candidates(self, queries: Float32Array, count: int) -> Int64Array:
        """The ``count`` best rows of each GPU, counted over all segments, as (q, c), -1 for none.

        The scores behind them are rounded, so callers ask for some more than they need and score them again.
        """
        found = []
        for _, index, start in self._shards:
            with self._searching:
                _, numbers = index.search(queries, min(count, index.ntotal))
            found.append(np.where(numbers < 0, -1, self._rows[numbers + start]))
        return np.concatenate(found, axis=1) if found else np.empty((len(queries), 0), dtype=np.int64)
