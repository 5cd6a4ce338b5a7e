"""Which new documents fit no topic, and which of them are topics of their own.

Nearly every document has *some* topic near it, so that asking each alone finds nothing new: of the documents of a
subject that was left out of a fit, one in ten at most was farther away than all that was fitted. As a group they are
told apart well. So the documents that are stranger to the topics than half of what is there are clustered among
themselves, with familiar ones for contrast, and a group is a topic of its own where

- its median document is stranger than 85 of 100 familiar ones, and
- its documents are nearer to each other than to any document that has a topic (median of the ratios below 1).

Measured with all-MiniLM-L6-v2 on samples of four labelled corpora (newsgroup subjects, BBC news, AG News, bioRxiv
titles), a fifth of the labels left out of the fit, two draws each: of the documents of a group that passed, 72 to 100 %
had a label that was left out, in most groups more than 90 %; where only documents of known labels came, none passed. A
subject that is hardly a cluster (a section of bioRxiv) is not found, as it would not be by a fit.
``bench_cluster.py update`` measures it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.algorithms.membership import renumber
from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray, nearest_neighbors

__all__ = ["Strangeness", "find_new_topics", "strangeness"]

BoolArray = npt.NDArray[np.bool_]

_NEIGHBORS = 10
_SAMPLE = 2_000  # documents whose distances stand for those of all
_DOUBTFUL = 0.5
_NEW = 0.85
_STRANGE = 0.95
_JOINS = 0.5  # membership by which a document that is in no group joins one


@dataclass(frozen=True, slots=True, eq=False)
class Strangeness:
    """How far documents are from those that have a topic.

    Attributes:
        distance: ``(m,)``, mean distance to the ten nearest.
        rank: ``(m,)``, the share of familiar documents that are nearer to one another than that, 0 to 1.
    """

    distance: FloatArray
    rank: FloatArray

    @property
    def doubtful(self) -> BoolArray:
        """Those that may belong to a new topic."""
        return self.rank > _DOUBTFUL

    @property
    def strange(self) -> BoolArray:
        """Those that fit nowhere even alone."""
        return self.rank > _STRANGE


def strangeness(familiar: FloatArray, rows: FloatArray) -> Strangeness:
    """Compare the distances of documents to the topics with those among the documents of the topics.

    Args:
        familiar: ``(n, d)``, vectors of the documents that have a topic.
        rows: ``(m, d)``, others.
    """
    k = min(_NEIGHBORS, len(familiar) - 1)
    if k < 1 or not len(rows):
        return Strangeness(np.full(len(rows), np.inf, dtype=np.float32), np.ones(len(rows), dtype=np.float32))
    chosen = familiar[_spread(len(familiar), _SAMPLE)]
    usual = np.sort(nearest_neighbors(familiar, chosen, k + 1)[0][:, 1:].mean(axis=1))  # not to itself
    distance = nearest_neighbors(familiar, rows, k)[0].mean(axis=1)
    return Strangeness(distance, (np.searchsorted(usual, distance) / len(usual)).astype(np.float32))


def find_new_topics(
    pool: FloatArray, fresh: BoolArray, judged: Strangeness, familiar: FloatArray, size: int, reduce: str, seed: int
) -> tuple[IntArray, FloatArray]:
    """Cluster documents that are doubtful or outliers among themselves, by density whatever the method of the fit was.

    Args:
        pool: ``(p, d)``, unit rows.
        fresh: ``(p,)``, those that came now; a topic without any of them is no news, and not made.
        judged: ``(p,)``, the strangeness of each.
        familiar: ``(n, d)``, documents that have a topic: as many of them as the pool has are clustered with it, for
            contrast. By itself a pool of one subject would be cut up, since density is found where there is less of it.
        size: the smallest topic.
        reduce: as in :class:`~llm2comp_apps.clustering.estimator.TopicClusterer`.
        seed: random seed.

    Returns:
        labels ``(p,)``: 0 to K - 1, -1 for documents in no new topic; membership ``(p, K)``.
    """
    if len(pool) < size or not fresh.any():
        return np.full(len(pool), -1, dtype=np.int32), np.zeros((len(pool), 0), dtype=np.float32)
    from llm2comp_apps.clustering.estimator import TopicClusterer

    beside = familiar[_spread(len(familiar), len(pool))]
    model = TopicClusterer(
        min_cluster_size=size, reduce=reduce, outliers="threshold", outlier_threshold=_JOINS, random_state=seed
    ).fit(np.vstack([pool, beside]))
    found, membership = model.labels_[: len(pool)], model.membership_[: len(pool)]
    groups = [np.flatnonzero(found == topic) for topic in range(model.n_clusters_)]
    kept = [
        topic
        for topic, own in enumerate(groups)
        if len(own) >= size and fresh[own].any() and _is_apart(pool, own, judged)
    ]
    numbers = np.full(model.n_clusters_, -1, dtype=np.int32)
    numbers[kept] = np.arange(len(kept))
    return renumber(found, numbers), membership[:, kept]


def _is_apart(pool: FloatArray, own: npt.NDArray[np.int64], judged: Strangeness) -> bool:
    """Whether the documents at the places ``own`` are a topic that was not there."""
    rows = pool[own]
    within = nearest_neighbors(rows, rows, min(_NEIGHBORS, len(rows) - 1) + 1)[0][:, 1:].mean(axis=1)
    nearer = within / np.maximum(judged.distance[own], 1e-12)
    return bool(np.median(judged.rank[own]) >= _NEW and np.median(nearer) < 1.0)


def _spread(n: int, most: int) -> npt.NDArray[np.int64]:
    """Up to ``most`` of n places, evenly spread."""
    return np.unique(np.linspace(0, max(n - 1, 0), min(most, n)).round().astype(np.int64))
