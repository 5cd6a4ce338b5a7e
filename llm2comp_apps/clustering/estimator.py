"""Clustering vectors: a scikit-learn estimator that does everything up to, and not including, words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from llm2comp_apps.clustering.algorithms import methods
from llm2comp_apps.clustering.algorithms.assign import Assigner, hash_rows, unit_rows
from llm2comp_apps.clustering.algorithms.membership import (
    OUTLIER_POLICIES,
    agree_on_copies,
    default_threshold,
    own_membership,
    ranks_by_size,
    renumber,
    settle_outliers,
    soft_membership,
)
from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray, fuzzy_graph, self_neighbors
from llm2comp_apps.clustering.algorithms.reduce import REDUCTIONS, Neighborhood, reduce_vectors

__all__ = ["TopicClusterer"]


class TopicClusterer(ClusterMixin, BaseEstimator):
    """Cluster embeddings; topics are numbered from the largest (0) on, outliers are -1.

    Equal data, parameters and ``random_state`` give equal results, whatever the number of threads.

    Args:
        method: ``hdbscan``, ``kmeans``, ``agglomerative`` or ``spectral``.
        n_clusters: k of the last three; ``None`` takes the k with the best silhouette. ``hdbscan`` finds its own.
        min_cluster_size: of ``hdbscan``; ``None`` for ``0.8 sqrt(n)``, less from 100 to 5,000 vectors, at least 5.
        min_samples: of ``hdbscan``: neighbours that make a region dense.
        cluster_selection: of ``hdbscan``: ``leaf``, ``eom``, or ``auto`` for the better of both.
        reduce: ``neighbor``, ``umap``, ``pca`` or ``none``: what brings the vectors down to few dimensions first.
        n_components: dimensions after that; ``None`` for 2 (``neighbor``), 5 (``umap``), 10 (``pca``).
        n_neighbors: edges per vector in the neighbour graph; fewer below 300 vectors.
        outliers: ``keep`` them, give each its ``nearest`` topic, or that only above a ``threshold`` of membership.
        outlier_threshold: the membership for ``threshold``; ``None`` for 0.2, and more with less than ten topics, see
            :func:`~llm2comp_apps.clustering.algorithms.membership.default_threshold`.
        metric: ``cosine`` or ``euclidean``.
        random_state: seed.

    Attributes:
        labels_: ``(n,)`` int32.
        probabilities_: ``(n,)`` float32, membership of the document's own topic; 0 for outliers.
        membership_: ``(n, C)`` float32, see :mod:`~llm2comp_apps.clustering.algorithms.membership`.
        n_clusters_: C.
        inside_: ``(n,)`` bool: the method itself gave the document a topic, and not the outlier policy.
        embedding_: ``(n, c)``, the reduced vectors that were clustered.
        neighborhood_: neighbour lists and graph of the vectors.
        assigner_: what ``predict`` needs, and all of what is stored on disk.
    """

    def __init__(
        self,
        method: str = "hdbscan",
        *,
        n_clusters: int | None = None,
        min_cluster_size: int | None = None,
        min_samples: int = 10,
        cluster_selection: str = "auto",
        reduce: str = "neighbor",
        n_components: int | None = None,
        n_neighbors: int = 30,
        outliers: str = "threshold",
        outlier_threshold: float | None = None,
        metric: str = "cosine",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.method = method
        self.n_clusters = n_clusters
        self.min_cluster_size = min_cluster_size
        self.min_samples = min_samples
        self.cluster_selection = cluster_selection
        self.reduce = reduce
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.outliers = outliers
        self.outlier_threshold = outlier_threshold
        self.metric = metric
        self.random_state = random_state

    def fit(self, X: npt.ArrayLike, y: object = None) -> TopicClusterer:  # noqa: ARG002 - scikit-learn passes y
        """Cluster ``(n, d)`` vectors.

        Raises:
            ValueError: a parameter or the vectors make no sense (NaN, no rows, fewer rows than clusters).
            ClusteringError: FAISS is missing.
        """
        self._check_parameters()
        rows: FloatArray = validate_data(self, X, dtype=np.float32)
        n = len(rows)
        if self.method != "hdbscan" and self.n_clusters and self.n_clusters > n:
            raise ValueError(f"n_clusters={self.n_clusters} must be <= n_samples={n}")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        vectors = unit_rows(rows) if self.metric == "cosine" else rows
        self.neighborhood_ = _neighborhood(vectors, min(self.n_neighbors, max(5, n // 10), n - 1))
        self.embedding_ = reduce_vectors(vectors, self.neighborhood_, self.reduce, self.n_components, seed)
        keys = hash_rows(rows)
        labels = agree_on_copies(self._cluster(vectors, seed), keys)
        labels = renumber(labels, ranks_by_size(labels))
        membership = soft_membership(self.neighborhood_.graph, labels)
        _, first, copy_of = np.unique(keys, return_index=True, return_inverse=True)
        membership = membership[first[copy_of]]  # copies have equal neighbours, but maybe not the same copies of them
        self.inside_: npt.NDArray[np.bool_] = labels >= 0
        threshold = self.outlier_threshold
        if threshold is None:
            threshold = default_threshold(membership.shape[1])
        labels = settle_outliers(labels, membership, self.outliers, threshold)
        self.assigner_ = Assigner(
            # Half precision is enough for unit rows alone: others may exceed its largest number, or differ by little.
            vectors=vectors.astype(np.float16) if self.metric == "cosine" else vectors,
            keys=keys,
            labels=labels,
            membership=membership,
            neighbors=max(1, self.neighborhood_.indices.shape[1]),
            reach=_reach(self.neighborhood_, first, copy_of),
            outliers=self.outliers,
            threshold=threshold,
            cosine=self.metric == "cosine",
        )
        self.merge_topics(range(membership.shape[1]))  # outliers have joined: number the topics by size again
        return self

    def predict(self, X: npt.ArrayLike) -> IntArray:
        """Assign vectors ``(m, d)`` to the topics; fitted vectors get exactly the labels that they were fitted with."""
        return self.predict_membership(X)[0]

    def predict_membership(self, X: npt.ArrayLike) -> tuple[IntArray, FloatArray]:
        """Assign vectors ``(m, d)``: labels ``(m,)`` and membership ``(m, C)``."""
        check_is_fitted(self, "assigner_")
        rows: FloatArray = validate_data(self, X, dtype=np.float32, reset=False)
        return self.assigner_.assign(rows)

    def merge_topics(self, groups: Sequence[int]) -> IntArray:
        """Join topics after fitting.

        Args:
            groups: for each topic the group it goes to, any numbers; equal numbers become one topic.

        Returns:
            ``(C,)``, the new number of each old topic. All fitted attributes and ``predict`` follow.
        """
        check_is_fitted(self, "assigner_")
        old = self.assigner_
        joined = np.unique(np.asarray(groups, dtype=np.int64), return_inverse=True)[1].astype(np.int32)
        numbers = ranks_by_size(renumber(old.labels, joined))[joined]
        count = int(numbers.max(initial=-1)) + 1
        self.assigner_ = replace(
            old,
            labels=renumber(old.labels, numbers),
            membership=old.membership @ np.eye(count, dtype=np.float32)[numbers],
        )
        self.labels_ = self.assigner_.labels
        self.membership_ = self.assigner_.membership
        self.probabilities_ = own_membership(self.labels_, self.membership_)
        self.n_clusters_ = count
        return numbers

    def _check_parameters(self) -> None:
        choices = {
            "method": methods.METHODS,
            "cluster_selection": ("auto", "leaf", "eom"),
            "reduce": tuple(REDUCTIONS),
            "outliers": OUTLIER_POLICIES,
            "metric": ("cosine", "euclidean"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}")
        least = {"n_clusters": 1, "min_cluster_size": 2, "min_samples": 1, "n_components": 1, "n_neighbors": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} is {value}; it must be at least {low}")
        if self.outlier_threshold is not None and not 0 <= self.outlier_threshold <= 1:
            raise ValueError(f"outlier_threshold is {self.outlier_threshold}; it must be between 0 and 1")

    def _cluster(self, vectors: FloatArray, seed: int) -> IntArray:
        points, graph, k = self.embedding_, self.neighborhood_.graph, self.n_clusters
        if self.method == "hdbscan":
            size = self.min_cluster_size or methods.default_cluster_size(len(points))
            return methods.hdbscan(points, graph, size, self.min_samples, self.cluster_selection)
        if k == 1 or (k is None and len(points) < 3) or np.ptp(vectors, axis=0).max() == 0:
            return np.zeros(len(points), dtype=np.int32)
        if self.method == "kmeans":
            return methods.kmeans(points, vectors, k, seed)
        if self.method == "agglomerative":
            return methods.agglomerative(points, graph, vectors, k, seed)
        return methods.spectral(graph, vectors, k, seed)


def _reach(neighborhood: Neighborhood, first: npt.NDArray[np.intp], copy_of: npt.NDArray[np.intp]) -> float:
    """How far almost every vector is at most from the nearest one that is not a copy of it: 99 % of the distinct ones.

    Args:
        neighborhood: of n vectors.
        first: ``(m,)`` positions of the distinct ones.
        copy_of: ``(n,)`` which of them each vector is a copy of.

    Returns:
        0 where all neighbours are copies: then nothing says what is far.
    """
    others = copy_of[neighborhood.indices[first]] != copy_of[first][:, None]
    nearest = np.where(others, neighborhood.distances[first], np.inf).min(axis=1, initial=np.inf)
    nearest = nearest[np.isfinite(nearest)]
    return float(np.quantile(nearest, 0.99)) if len(nearest) else 0.0


def _neighborhood(vectors: FloatArray, k: int) -> Neighborhood:
    n = len(vectors)
    if k < 1:
        empty = np.zeros((n, 0))
        return Neighborhood(
            empty.astype(np.float32), empty.astype(np.int32), sparse.csr_matrix((n, n), dtype=np.float32)
        )
    distances, indices = self_neighbors(vectors, k)
    return Neighborhood(distances, indices, fuzzy_graph(distances, indices))
