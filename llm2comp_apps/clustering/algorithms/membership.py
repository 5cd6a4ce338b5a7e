"""Soft membership: how much every document belongs to every topic.

A random walk on the neighbour graph starts at a document. At a document with a label it stops with probability 1/2, at
an outlier it is lost with probability 1/20; else it moves to a neighbour. A document's membership of a topic is the
probability that its walk ends there (the absorbing walks of Zhu et al. 2003, relaxed as in Zhou et al. 2004). So a
labelled document belongs to its own topic by at least 1/2, an outlier between two topics to both, and one far from all
to none: what is missing to 1 is the share of walks that were lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray, random_walk

if TYPE_CHECKING:
    from scipy import sparse

__all__ = [
    "OUTLIER_POLICIES",
    "agree_on_copies",
    "default_threshold",
    "own_membership",
    "ranks_by_size",
    "renumber",
    "settle_outliers",
    "soft_membership",
]

OUTLIER_POLICIES = ("keep", "nearest", "threshold")
_STOP = 0.5
_LOST = 0.05
_STEPS = 40
_THRESHOLD = 0.2


def soft_membership(graph: sparse.csr_matrix, labels: IntArray) -> FloatArray:
    """Walk from every document to the topics.

    Args:
        graph: ``(n, n)`` edge weights.
        labels: ``(n,)``, 0 to C - 1, or -1 for outliers.

    Returns:
        ``(n, C)``, rows sum to at most 1.
    """
    n, topics = len(labels), int(labels.max(initial=-1)) + 1
    member = np.zeros((n, topics), dtype=np.float32)
    known = labels >= 0
    member[known, labels[known]] = 1.0
    if not topics:
        return member
    walk = random_walk(graph).astype(np.float32)
    lonely = np.asarray(walk.sum(axis=1)).ravel() == 0  # nowhere to go: a label is certain
    stop = np.where(known, np.where(lonely, 1.0, _STOP), 0.0).astype(np.float32)[:, None]
    onward = np.where(known, 1.0 - _STOP, 1.0 - _LOST).astype(np.float32)[:, None]
    source = stop * member
    for _ in range(_STEPS):
        member = source + onward * (walk @ member)
    return member


def default_threshold(topics: int) -> float:
    """How much an outlier must belong to a topic to join it: ``max(0.2, 2 / C)`` for C topics.

    An outlier's memberships sum to nearly 1 however little it belongs anywhere, so among few topics the largest of them
    is large: of four it is at least a quarter, and 0.2 would take in everything, noise included. So a topic must have
    twice the even share of it, which is 0.2 again from ten topics on. With one topic or two nothing can join.
    """
    return max(_THRESHOLD, 2.0 / max(topics, 1))


def settle_outliers(labels: IntArray, membership: FloatArray, policy: str, threshold: float) -> IntArray:
    """Decide about the documents without a label.

    Args:
        labels: ``(n,)`` with -1 for outliers.
        membership: ``(n, C)``.
        policy: ``keep`` them; ``nearest`` gives each the topic it belongs to most; ``threshold`` only if it does by at
            least ``threshold``.
        threshold: in [0, 1].
    """
    if policy == "keep" or membership.shape[1] == 0:
        return labels
    least = threshold if policy == "threshold" else 0.0
    enough = membership.max(axis=1) >= least
    return np.where((labels < 0) & enough, membership.argmax(axis=1), labels).astype(np.int32)


def agree_on_copies(labels: IntArray, keys: npt.NDArray[np.uint64]) -> IntArray:
    """Give all copies of one vector the label that most of them have (of equally many, the lowest).

    Two equal texts in two topics would be absurd to read, and could not be told apart when labels are assigned again.

    Args:
        labels: ``(n,)``.
        keys: ``(n,)``, equal for equal vectors.
    """
    from scipy import sparse

    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    if counts.max(initial=1) == 1:
        return labels
    shifted = labels - labels.min()
    votes = sparse.coo_matrix((np.ones(len(labels)), (inverse, shifted))).tocsr()
    winner = np.asarray(votes.argmax(axis=1)).ravel()
    return (winner[inverse] + labels.min()).astype(np.int32)


def ranks_by_size(labels: IntArray) -> IntArray:
    """Rank the topics from the largest (0) on; equal sizes in the order of their first document.

    Args:
        labels: ``(n,)``, -1 for outliers.

    Returns:
        ``(max label + 1,)``: the rank of each topic, -1 for numbers that no document has.
    """
    topics, first, counts = np.unique(labels[labels >= 0], return_index=True, return_counts=True)
    ranks = np.full(labels.max(initial=-1) + 1, -1, dtype=np.int32)
    ranks[topics[np.lexsort((first, -counts))]] = np.arange(len(topics), dtype=np.int32)
    return ranks


def renumber(labels: IntArray, numbers: IntArray) -> IntArray:
    """Replace topic t by ``numbers[t]``; outliers stay -1."""
    return np.append(numbers, -1)[labels].astype(np.int32)


def own_membership(labels: IntArray, membership: FloatArray) -> FloatArray:
    """How much every document belongs to the topic it was given; 0 for outliers."""
    if not membership.shape[1]:
        return np.zeros(len(labels), dtype=np.float32)
    own = membership[np.arange(len(labels)), np.maximum(labels, 0)]
    return np.where(labels >= 0, own, np.float32(0.0))
