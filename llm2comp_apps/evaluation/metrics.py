"""The measures, by the field's definitions, on plain arrays.

Ranking measures follow ``trec_eval`` (so ``pytrec_eval`` and MTEB give the same figures): gains are linear, judgements
below 1 count as not relevant, and documents with equal scores are ordered by id, descending.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = [
    "average_precision",
    "mean_of",
    "ndcg",
    "paired_similarities",
    "rank_order",
    "recall",
    "reciprocal_rank",
    "spearman",
]

Array = npt.NDArray[np.floating]


def rank_order(scores: Array, tie_keys: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
    """Indices that sort ``scores`` descending, equal scores by ``tie_keys`` descending (as ``trec_eval`` does by id).

    Args:
        scores: ``(n,)`` similarity of each candidate.
        tie_keys: ``(n,)`` each candidate's position among the sorted ids.

    Returns:
        ``(n,)`` candidate indices, best first.
    """
    return np.lexsort((-tie_keys, -scores))


def ndcg(gains: Array, judged: Array, k: int) -> float:
    """Normalised discounted cumulative gain at k: DCG@k / IDCG@k with DCG@k = sum_i gain_i / log2(i + 1).

    Järvelin and Kekäläinen, ACM TOIS 2002; linear gains as in ``trec_eval``'s ``ndcg_cut``.

    Args:
        gains: judged gain of each ranked document, best-ranked first, 0 where not judged.
        judged: all judged gains of the query, in any order; the ideal ranking is made of these.
        k: cut-off.

    Returns:
        A number in [0, 1]; 0 for a query without relevant documents.
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    top = np.maximum(gains[:k], 0.0)
    ideal = np.sort(np.maximum(judged, 0.0))[::-1][:k]
    best = float(ideal @ discounts[: len(ideal)])
    return float(top @ discounts[: len(top)]) / best if best > 0 else 0.0


def recall(gains: Array, judged: Array, k: int) -> float:
    """Share of the query's relevant documents among its first k; 0 without relevant documents."""
    relevant = int(np.sum(judged >= 1))
    return float(np.sum(gains[:k] >= 1)) / relevant if relevant else 0.0


def average_precision(gains: Array, judged: Array) -> float:
    """Mean, over all relevant documents, of the precision at their rank; a relevant one not retrieved counts 0."""
    relevant = int(np.sum(judged >= 1))
    if relevant == 0:
        return 0.0
    hits = gains >= 1
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].sum()) / relevant


def reciprocal_rank(gains: Array, k: int) -> float:
    """1 / rank of the first relevant document among the first k, else 0."""
    hits = np.flatnonzero(gains[:k] >= 1)
    return 1.0 / float(hits[0] + 1) if len(hits) else 0.0


def spearman(x: Array, y: Array) -> float:
    """Spearman's rank correlation, ties given their mean rank; NaN where one side is constant."""
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)


def paired_similarities(a: Array, b: Array) -> dict[str, Array]:
    """Similarities of row i of ``a`` with row i of ``b``, larger meaning nearer, under MTEB's four names.

    Args:
        a: ``(n, d)``.
        b: ``(n, d)``.

    Returns:
        ``cosine``, ``dot``, ``euclidean`` and ``manhattan`` (the last two negated distances), each ``(n,)`` float64.
    """
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    dot = np.einsum("nd,nd->n", a64, b64)
    return {
        "cosine": dot / np.where(norms > 0, norms, 1.0),
        "dot": dot,
        "euclidean": -np.linalg.norm(a64 - b64, axis=1),
        "manhattan": -np.abs(a64 - b64).sum(axis=1),
    }


def mean_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Arithmetic mean of each key over ``rows``, which share their keys."""
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
