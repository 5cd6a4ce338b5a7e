"""Topics of topics: average linkage over the topics' centroids, cut into levels."""

from __future__ import annotations

import numpy as np

from llm2comp_apps.clustering.algorithms.assign import unit_rows
from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray

__all__ = ["group_sizes", "group_topics"]


def group_sizes(topics: int, levels: int) -> list[int]:
    """How many groups each level above the topics has: geometric steps, ``C ** ((L - l) / L)`` for level l of L.

    30 topics in 2 levels give 5 groups, in 3 levels 10 and 3. A level that would group nothing is left out.
    """
    sizes = [round(topics ** ((levels - level) / levels)) for level in range(1, levels)]
    return [size for size, below in zip(sizes, [topics, *sizes], strict=False) if 1 < size < below]


def group_topics(centroids: FloatArray, sizes: list[int]) -> list[IntArray]:
    """Group topics, and groups of topics, by cosine.

    Args:
        centroids: ``(C, d)``.
        sizes: descending numbers of groups, one for each level.

    Returns:
        For each level ``(C,)``: the group of each topic, numbered by first topic. All levels are cuts of one tree, so
        that a group lies within one group of the next level.
    """
    from scipy.cluster.hierarchy import cut_tree, linkage

    if not sizes:
        return []
    rows = unit_rows(centroids - centroids.mean(axis=0)).astype(np.float64)  # embeddings share a large mean
    tree = linkage(rows, method="average", metric="euclidean")
    cuts = cut_tree(tree, n_clusters=sizes)
    levels = []
    for column in range(len(sizes)):
        _, first, group = np.unique(cuts[:, column], return_index=True, return_inverse=True)
        levels.append(np.argsort(np.argsort(first))[group].astype(np.int32))
    return levels
