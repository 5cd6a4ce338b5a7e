"""Nearest neighbours and the weighted graph they span.

Everything downstream is built on this one graph: the low-dimensional layout, soft membership, the constraint of
agglomerative clustering, spectral clustering, and the assignment of new documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llm2comp_apps.errors import ClusteringError

if TYPE_CHECKING:
    import faiss
    from scipy import sparse

__all__ = [
    "EXACT_BELOW",
    "FloatArray",
    "IntArray",
    "fuzzy_graph",
    "local_weights",
    "nearest_neighbors",
    "random_walk",
    "self_neighbors",
]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

# Exact search is quadratic: 50k vectors of 384 dimensions take about 10 s on 2 cores. Above that an inverted file is
# used, and not HNSW, since a graph built by several threads differs from run to run.
EXACT_BELOW = 50_000
_PROBED_SHARE = 0.04
_BISECTIONS = 48


def nearest_neighbors(points: FloatArray, queries: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """Find the k nearest points of every query by Euclidean distance.

    Args:
        points: ``(n, d)`` float32.
        queries: ``(m, d)`` float32.
        k: neighbours per query, at most n.

    Returns:
        distances ``(m, k)`` ascending, and indices ``(m, k)`` into ``points``.

    Raises:
        ClusteringError: FAISS is not installed.
    """
    points, queries = (np.ascontiguousarray(rows, dtype=np.float32) for rows in (points, queries))
    squared, found = _build(points, k).search(queries, k)
    short = np.flatnonzero(found[:, -1] < 0)  # the lists that were probed held fewer than k points
    if len(short):
        import faiss

        squared[short], found[short] = faiss.knn(queries[short], points, k)
    return np.sqrt(np.maximum(squared, 0.0)), found.astype(np.int32)


def self_neighbors(points: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """Find the k nearest *other* points of every point; shapes as in :func:`nearest_neighbors`."""
    distances, indices = nearest_neighbors(points, points, k + 1)
    own = indices == np.arange(len(points), dtype=np.int32)[:, None]
    # Among more than k copies of one vector the point itself may be missing from its own list: drop the last one then.
    own[~own.any(axis=1), -1] = True
    shape = (len(points), k)
    return distances[~own].reshape(shape), indices[~own].reshape(shape)


def fuzzy_graph(distances: FloatArray, indices: IntArray) -> sparse.csr_matrix:
    """Turn neighbour lists into UMAP's symmetric fuzzy graph (McInnes et al. 2018, algorithms 2 and 3).

    A directed edge weighs ``exp(-(d - nearest) / sigma)``, where sigma gives every point the same total weight
    ``log2(k + 1)``, so that dense and sparse regions look alike; both directions are joined by ``a + b - ab``.

    Args:
        distances: ``(n, k)``, ascending, without the point itself.
        indices: ``(n, k)``.

    Returns:
        ``(n, n)`` float32 with sorted indices, weights in (0, 1].
    """
    from scipy import sparse

    n, k = distances.shape
    weights = local_weights(distances.astype(np.float64)).astype(np.float32)
    directed = sparse.csr_matrix((weights.ravel(), indices.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    reverse = directed.T.tocsr()
    graph = (directed + reverse - directed.multiply(reverse)).tocsr()
    graph.eliminate_zeros()
    graph.sort_indices()
    return graph


def random_walk(graph: sparse.csr_matrix) -> sparse.csr_matrix:
    """Scale the rows of a graph to sum 1; a point without neighbours keeps an empty row."""
    from scipy import sparse

    total = np.asarray(graph.sum(axis=1)).ravel()
    scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    return (sparse.diags(scale) @ graph).tocsr()


def local_weights(distances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weigh the neighbours ``(n, k)``, nearest first, of each point on its own scale: the directed edges above."""
    excess = distances - distances[:, :1]
    target = np.log2(distances.shape[1] + 1)
    low, high = np.zeros(len(distances)), np.full(len(distances), np.inf)
    sigma = np.full(len(distances), max(float(distances.mean()), 1e-12))
    floor = 1e-3 * sigma  # copies of one vector have no excess at all, and must not divide by zero
    for _ in range(_BISECTIONS):
        heavy = np.exp(-excess / sigma[:, None]).sum(axis=1) > target
        high, low = np.where(heavy, sigma, high), np.where(heavy, low, sigma)
        sigma = np.where(np.isinf(high), 2 * sigma, (low + high) / 2)
        sigma = np.clip(sigma, floor, 1e6 * floor)
    return np.exp(-excess / sigma[:, None])


def _build(points: FloatArray, k: int) -> faiss.Index:
    try:
        import faiss
    except ImportError as error:
        raise ClusteringError(
            "clustering needs FAISS, which is not installed: pip install 'llm2comp-apps[cpu]'"
        ) from error
    n, dimension = points.shape
    flat = faiss.IndexFlatL2(dimension)
    if n <= EXACT_BELOW:
        flat.add(points)
        return flat
    lists = int(4 * np.sqrt(n))
    index = faiss.IndexIVFFlat(flat, dimension, lists, faiss.METRIC_L2)
    index.cp.seed, index.cp.niter = 0, 10
    index.train(points)
    index.add(points)
    index.nprobe = max(16, int(_PROBED_SHARE * lists), k // 8)
    return index
