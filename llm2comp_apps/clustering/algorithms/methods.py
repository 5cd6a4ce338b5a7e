"""The four ways to turn points into labels.

``hdbscan`` finds the number of clusters and leaves sparse regions out (label -1); the other three take a number of
clusters k or choose it by the silhouette of the original vectors. On five labelled development corpora the chosen k had
between 0.88 and 1.00 of the best k's adjusted Rand index; Calinski-Harabasz always took k = 2 or 3.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray

if TYPE_CHECKING:
    from scipy import sparse

__all__ = [
    "BIG_SHARE",
    "METHODS",
    "agglomerative",
    "cluster_count_candidates",
    "default_cluster_size",
    "hdbscan",
    "is_lopsided",
    "kmeans",
    "modularity",
    "spectral",
]

METHODS = ("hdbscan", "kmeans", "agglomerative", "spectral")
MINI_BATCH_ABOVE = 20_000
FULL_TREE_BELOW = 2_000
_SILHOUETTE_SAMPLE = 4_000
_CANDIDATES = 16
_GAIN = 0.1
BIG_SHARE = 0.4
_BIG_RATIO = 1.5
_WORTH_KEPT = 0.75
_LARGE = 5_000
_SMALL = 8.0
_FEW_GROUPS = 8


def default_cluster_size(n: int) -> int:
    """The smallest cluster of n documents that HDBSCAN keeps: ``0.8 sqrt(n)``, less from 100 to 5,000, at least 5.

    A share of n would hide every small topic of a large corpus, a constant would cut it into thousands. Hundreds of
    documents have topics of few: with ``0.8 sqrt(n)`` one topic held half of 600 search snippets and 63 % of 1,000
    subject lines; with ``0.8 sqrt(n) (n / 5000)^0.4`` (8 and 13 documents) a fifth, and the adjusted Rand index rose
    by .2. Below 8 documents, topics of noise take in most of it.
    """
    usual = 0.8 * n**0.5
    return max(5, round(min(usual, max(_SMALL, usual * (n / _LARGE) ** 0.4))))


def hdbscan(
    points: FloatArray, graph: sparse.csr_matrix, min_cluster_size: int, min_samples: int, selection: str = "auto"
) -> IntArray:
    """Cluster by density (Campello et al. 2013).

    Args:
        points: ``(n, c)``.
        graph: ``(n, n)``, the neighbour graph of the original vectors; decides for ``auto``.
        min_cluster_size: smaller groups are outliers.
        min_samples: neighbours that make a region dense, at most the smallest size of a cluster. The library does not
            count a point as its own neighbour, so that a group of just that size is only as dense as its surroundings:
            one neighbour less is taken where :func:`modularity` gains by 0.1, and half as many or two
            where there is no room for eight such groups. Always taken, they would cut clusters of chance out of small
            corpora.
        selection: ``leaf`` takes the finest clusters, which may be parts of one; ``eom`` the most stable, two of which
            may hold everything; ``auto`` of these two the clusters of higher :func:`modularity`, and in place of a
            cluster that dwarfs the others (:func:`is_lopsided`) its parts, if that keeps three quarters of it.

    Returns:
        ``(n,)``, -1 for outliers. A corpus without any split is one cluster.
    """
    import hdbscan as library

    n = len(points)
    if n < min_cluster_size or n < 2:
        return np.full(n, -1, dtype=np.int32)
    if np.ptp(points, axis=0).max() == 0:
        return np.zeros(n, dtype=np.int32)

    def fit(samples: int, **options: Any) -> IntArray:
        model = library.HDBSCAN(min_cluster_size, min_samples=min(samples, n - 1), core_dist_n_jobs=1, **options)
        return model.fit(points).labels_.astype(np.int32)

    selections = ("leaf", "eom") if selection == "auto" else (selection,)
    worth = partial(modularity, graph)
    usual = min(min_samples, min_cluster_size)
    labels = max((fit(usual, cluster_selection_method=one) for one in selections), key=worth)
    if usual == min_cluster_size:
        fewer = {usual - 1} | ({usual // 2, 2} if n < _FEW_GROUPS * min_cluster_size else set())
        for samples in sorted(fewer, reverse=True):
            finer = max((fit(samples, cluster_selection_method=one) for one in selections), key=worth)
            labels = finer if worth(finer) > worth(labels) + _GAIN else labels
    if selection == "auto" and is_lopsided(np.bincount(labels[labels >= 0]), n):
        split = fit(usual, cluster_selection_method="eom", max_cluster_size=int(BIG_SHARE * n))
        labels = split if worth(split) >= _WORTH_KEPT * worth(labels) else labels
    return labels if labels.max() >= 0 else fit(usual, allow_single_cluster=True)


def is_lopsided(sizes: Sequence[int] | npt.NDArray[np.int64], n: int) -> bool:
    """Whether one of several clusters holds 40 % of n documents, and half as many again as the next one."""
    largest = sorted(map(int, sizes), reverse=True)[:2]
    return len(largest) == 2 and largest[0] >= max(BIG_SHARE * n, _BIG_RATIO * largest[1])


def modularity(graph: sparse.csr_matrix, labels: IntArray) -> float:
    """Share of edge weight within clusters, less what chance would put there (Newman and Girvan 2004).

    Splitting one cluster lowers it, and so does joining two. Every outlier (label -1) counts as a cluster of its own.
    """
    clusters = np.where(labels < 0, labels.max(initial=-1) + 1 + np.arange(len(labels)), labels)
    edges = graph.tocoo()
    degree = np.asarray(graph.sum(axis=1), dtype=np.float64).ravel()
    total = degree.sum()
    if total == 0:
        return 0.0
    within = edges.data[clusters[edges.row] == clusters[edges.col]].sum(dtype=np.float64)
    return float(within / total - np.square(np.bincount(clusters, weights=degree) / total).sum())


def kmeans(points: FloatArray, vectors: FloatArray, k: int | None, seed: int) -> IntArray:
    """Cluster by k-means, mini-batch above 20,000 points; ``k`` of ``None`` is chosen on ``vectors``."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    def fit(count: int) -> IntArray:
        if len(points) > MINI_BATCH_ABOVE:
            model = MiniBatchKMeans(count, random_state=seed, batch_size=4096, n_init=5)
        else:
            model = KMeans(count, random_state=seed, n_init=3)
        return model.fit(points).labels_.astype(np.int32)

    # Threads add up partial sums in the order they finish, and a last digit can move a document to another cluster.
    with threadpool_limits(limits=1, user_api="openmp"), warnings.catch_warnings():
        # Fewer distinct points than clusters: whoever asked for k is told so in words of ours.
        warnings.filterwarnings("ignore", message="Number of distinct clusters", category=ConvergenceWarning)
        return fit(k) if k else _best_by_silhouette(vectors, fit, seed)


def agglomerative(
    points: FloatArray, graph: sparse.csr_matrix, vectors: FloatArray, k: int | None, seed: int
) -> IntArray:
    """Cluster by Ward linkage, above 2,000 points along the edges of the neighbour graph only: one tree, cut at k."""
    from sklearn.cluster import ward_tree

    n = len(points)
    with warnings.catch_warnings():
        # A graph in several pieces is bridged between their closest points, which is what is wanted.
        warnings.filterwarnings("ignore", message="the number of connected components", category=UserWarning)
        children = ward_tree(points.astype(np.float64), connectivity=graph if n > FULL_TREE_BELOW else None)[0]

    def cut(count: int) -> IntArray:
        return _cut(children, n, count)

    return cut(k) if k else _best_by_silhouette(vectors, cut, seed)


def spectral(graph: sparse.csr_matrix, vectors: FloatArray, k: int | None, seed: int) -> IntArray:
    """Cut the neighbour graph by its Laplacian's eigenvectors.

    The assignment is that of Damle et al. (2019), "Simple, direct and efficient multi-way spectral clustering": the k
    points that pivoted QR picks span the clusters, so that nothing depends on a random start.
    """
    from scipy.linalg import qr, svd
    from sklearn.manifold import spectral_embedding

    n = len(vectors)
    if k == n:  # the solver finds fewer eigenvectors than there are
        return np.arange(n, dtype=np.int32)
    most = k or cluster_count_candidates(n)[-1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Graph is not fully connected", category=UserWarning)
        eigenvectors = spectral_embedding(
            graph, n_components=most, drop_first=False, random_state=seed, norm_laplacian=True
        )

    def cut(count: int) -> IntArray:
        first = eigenvectors[:, :count]
        pivots = qr(first.T, pivoting=True, mode="r")[1][:count]
        left, _, right = svd(first[pivots].T)
        return np.abs(first @ (left @ right)).argmax(axis=1).astype(np.int32)

    return cut(k) if k else _best_by_silhouette(vectors, cut, seed)


def cluster_count_candidates(n: int) -> list[int]:
    """The numbers of clusters tried for n documents: geometric from 2 to ``2 sqrt(n)``, at most 200."""
    most = int(max(2, min(200, n // 5, 2 * n**0.5)))
    return sorted({round(k) for k in np.geomspace(2, most, _CANDIDATES)})


def _best_by_silhouette(vectors: FloatArray, labels_of: Callable[[int], IntArray], seed: int) -> IntArray:
    """Take the labels whose silhouette over the original vectors is highest."""
    from sklearn.metrics import silhouette_samples

    n = len(vectors)
    if n < 3:
        return np.zeros(n, dtype=np.int32)
    sample = np.random.default_rng(seed).permutation(n)[:_SILHOUETTE_SAMPLE]
    best, best_score = np.zeros(n, dtype=np.int32), -np.inf
    for k in cluster_count_candidates(n):
        labels = labels_of(k)
        found = len(np.unique(labels[sample]))
        if 2 <= found < len(sample):
            score = float(silhouette_samples(vectors[sample], labels[sample]).mean())
            if score > best_score:
                best, best_score = labels, score
    return best


def _cut(children: npt.NDArray[np.int64], n: int, k: int) -> IntArray:
    """Undo the last k - 1 merges of a tree whose j-th row joins two nodes to node n + j."""
    top = np.arange(n + len(children))
    for j in range(len(children) - 1, -1, -1):
        if j <= len(children) - k:  # this merge stands: its children belong where it belongs
            top[children[j]] = top[n + j]
    return np.unique(top[:n], return_inverse=True)[1].astype(np.int32)
