"""Places on a map that is there already: new documents beside their neighbours, new topics as islands in free space."""

from __future__ import annotations

import numpy as np

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, local_weights, nearest_neighbors
from llm2comp_apps.clustering.algorithms.reduce import principal_components

__all__ = ["island", "place_beside"]

_NEIGHBORS = 10
_GRID = 48
_GAP = 1.2  # radii from an island's middle to the nearest document around it


def place_beside(known: FloatArray, positions: FloatArray, rows: FloatArray) -> FloatArray:
    """The weighted mean place of each new document's nearest known ones.

    Args:
        known: ``(n, d)``, vectors that have a place.
        positions: ``(n, 2)``.
        rows: ``(m, d)``.

    Returns:
        ``(m, 2)``.
    """
    distances, indices = nearest_neighbors(known, rows, min(_NEIGHBORS, len(known)))
    weights = local_weights(distances.astype(np.float64))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("mk,mkc->mc", weights, positions[indices]).astype(np.float32)


def island(vectors: FloatArray, positions: FloatArray, wish: FloatArray) -> FloatArray:
    """Lay a new topic out where nothing is yet, as near to a place as that allows.

    Its disc has the share of the map's width that its documents have of all, so that it is as dense as the rest.

    Args:
        vectors: ``(g, d)`` of its documents.
        positions: ``(n, 2)`` of all others, at least one.
        wish: ``(2,)``, where it would lie best.

    Returns:
        ``(g, 2)``.
    """
    from scipy.spatial import cKDTree

    low, high = positions.min(axis=0), positions.max(axis=0)
    width = float((high - low).max()) or 1.0
    radius = 0.4 * width * (len(vectors) / (len(vectors) + len(positions))) ** 0.5
    axes = [np.linspace(low[i] - 2 * radius, high[i] + 2 * radius, _GRID) for i in range(2)]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    clearance = cKDTree(positions).query(grid)[0]
    free = grid[clearance >= min(_GAP * radius, float(clearance.max()))]
    middle = free[np.linalg.norm(free - wish, axis=1).argmin()]
    shape = principal_components(vectors, 2)
    shape = shape / max(float(np.quantile(np.linalg.norm(shape, axis=1), 0.9)), 1e-12)
    shape /= np.maximum(np.linalg.norm(shape, axis=1, keepdims=True), 1.0)  # a few far ones are brought to the shore
    return (middle + radius * shape).astype(np.float32)
