"""Few dimensions from many, before clustering.

Density needs few dimensions: in 384 of them everything is about equally far from everything. The default,
``neighbor``, is :mod:`~llm2comp_apps.clustering.algorithms.layout`. On every second document of three labelled corpora
(20 Newsgroups subjects, bioRxiv titles, PubMed titles) its clusters had an adjusted Rand index of 0.15, 0.22 and 0.26,
those of UMAP 0.14, 0.18 and 0.24, those of PCA 0.01, 0.03 and 0.11: ``bench_cluster.py choose`` measures it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["REDUCTIONS", "Neighborhood", "map_positions", "principal_components", "reduce_vectors"]

REDUCTIONS = {"neighbor": 2, "umap": 5, "pca": 10, "none": 0}  # with the dimensions each gives by default
_LAYOUT_EPOCHS = 300


@dataclass(frozen=True, slots=True)
class Neighborhood:
    """The neighbour lists ``(n, k)`` of the vectors and the fuzzy graph ``(n, n)`` they span."""

    distances: FloatArray
    indices: IntArray
    graph: sparse.csr_matrix


def principal_components(vectors: FloatArray, count: int) -> FloatArray:
    """Project ``(n, d)`` onto the first ``count`` principal components; missing ones are zero."""
    from sklearn.decomposition import PCA

    n, d = vectors.shape
    if not np.ptp(vectors, axis=0).any():  # equal vectors differ from their mean by rounding, which is no direction
        return np.zeros((n, count), dtype=np.float32)
    kept = min(count, d, n)
    # The covariance is d x d, so its eigenvectors cost one matrix product however many documents there are.
    components = PCA(kept, svd_solver="covariance_eigh" if n > d else "full").fit_transform(vectors)
    return np.pad(components, ((0, 0), (0, count - kept))).astype(np.float32)


def reduce_vectors(
    vectors: FloatArray, neighborhood: Neighborhood, method: str, components: int | None, seed: int
) -> FloatArray:
    """Reduce ``(n, d)`` vectors to ``(n, c)`` by one of :data:`REDUCTIONS`.

    Args:
        vectors: unit rows for cosine, any for Euclidean distance.
        neighborhood: of the vectors; used by ``neighbor`` and ``umap``.
        method: a key of :data:`REDUCTIONS`.
        components: c; ``None`` for the method's default.
        seed: for the random pairs of ``neighbor`` and ``umap``.
    """
    c = components or REDUCTIONS[method]
    if method == "none":
        return vectors
    if method == "pca":
        return principal_components(vectors, c)
    if method == "umap" and len(vectors) > c + 1:
        return _umap(vectors, neighborhood, c, seed)
    from llm2comp_apps.clustering.algorithms.layout import neighbor_layout  # numba: half a second

    start = principal_components(vectors, c)
    return neighbor_layout(neighborhood.graph, start, epochs=_LAYOUT_EPOCHS, seed=seed)


def map_positions(
    vectors: FloatArray, neighborhood: Neighborhood, reduced: FloatArray, method: str, seed: int
) -> FloatArray:
    """Place the documents on a plane: where ``neighbor`` put them if they were clustered there, else by it now."""
    if method == "neighbor" and reduced.shape[1] == 2:
        return reduced
    return reduce_vectors(vectors, neighborhood, "neighbor", 2, seed)


def _umap(vectors: FloatArray, neighborhood: Neighborhood, components: int, seed: int) -> FloatArray:
    import umap

    n = len(vectors)
    # umap-learn counts a point as its own first neighbour.
    indices = np.hstack([np.arange(n, dtype=np.int32)[:, None], neighborhood.indices])
    distances = np.hstack([np.zeros((n, 1), dtype=np.float32), neighborhood.distances])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="umap")  # a seed means one thread, it says: known and wanted
        model = umap.UMAP(
            n_neighbors=indices.shape[1],
            n_components=components,
            min_dist=0.0,
            init="pca",
            random_state=seed,
            n_jobs=1,
            precomputed_knn=(indices, distances),
        )
        return np.asarray(model.fit_transform(vectors), dtype=np.float32)
