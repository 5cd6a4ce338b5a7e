"""How good a clustering is: without labels, and against them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray

__all__ = ["SAMPLE", "agreement", "density_validity", "purity", "silhouette"]

SAMPLE = 5_000  # documents above which the two quadratic scores are taken from a sample
_MOST_DIMENSIONS = 20


def silhouette(vectors: FloatArray, labels: IntArray, seed: int = 0) -> float | None:
    """Mean silhouette (Rousseeuw 1987) by cosine over the original vectors, outliers left out.

    Args:
        vectors: ``(n, d)``, unit rows.
        labels: ``(n,)``.
        seed: of the sample.

    Returns:
        -1 to 1; ``None`` where it is not defined: fewer than two topics, or as many as documents.
    """
    from sklearn.metrics import silhouette_score

    chosen = _sample(labels, seed)
    if not 2 <= len(np.unique(labels[chosen])) < len(chosen):
        return None
    return float(silhouette_score(vectors[chosen], labels[chosen], metric="cosine"))


def density_validity(points: FloatArray, labels: IntArray, seed: int = 0) -> float | None:
    """DBCV (Moulavi et al. 2014) in the space that was clustered, outliers left out.

    Returns:
        -1 to 1; ``None`` where it is not defined: fewer than two topics of two documents, or more than 20 dimensions,
        whose densities overflow.
    """
    from hdbscan.validity import validity_index

    chosen = _sample(labels, seed)
    topics, counts = np.unique(labels[chosen], return_counts=True)
    chosen = chosen[np.isin(labels[chosen], topics[counts > 1])]
    if (counts > 1).sum() < 2 or points.shape[1] > _MOST_DIMENSIONS:
        return None
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="hdbscan")
        score = float(validity_index(points[chosen].astype(np.float64), labels[chosen]))
    return score if np.isfinite(score) else None


def agreement(truth: Sequence[str], labels: IntArray) -> dict[str, float]:
    """Compare with the labels that people gave; outliers count as one more cluster.

    Args:
        truth: n labels.
        labels: ``(n,)``.

    Returns:
        ``v_measure``, ``nmi``, ``ari``, ``purity``.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, v_measure_score

    return {
        "v_measure": float(v_measure_score(truth, labels)),
        "nmi": float(normalized_mutual_info_score(truth, labels)),
        "ari": float(adjusted_rand_score(truth, labels)),
        "purity": purity(truth, labels),
    }


def purity(truth: Sequence[str], labels: IntArray) -> float:
    """Share of documents whose label is the most frequent one of their cluster."""
    from sklearn.metrics.cluster import contingency_matrix

    table: npt.NDArray[np.int64] = contingency_matrix(truth, labels)
    return float(table.max(axis=0).sum() / table.sum())


def _sample(labels: IntArray, seed: int) -> npt.NDArray[np.int64]:
    inside = np.flatnonzero(labels >= 0)
    if len(inside) <= SAMPLE:
        return inside
    return np.sort(np.random.default_rng(seed).choice(inside, SAMPLE, replace=False))
