"""Low-dimensional layout of the neighbour graph: pull neighbours together, push random pairs apart.

The loss is UMAP's: cross-entropy between the graph's edges and ``q = 1 / (1 + a |y_i - y_j|^2)``, with negative samples
in place of the sum over all pairs (Damrich et al. 2023, "From t-SNE to UMAP with contrastive learning", derive it). The
optimiser is ours: every point takes one clipped momentum step per epoch against the positions of the epoch before.
umap-learn's asynchronous updates are either reproducible (one thread) or fast (many threads, another result each time);
these are both, since no point reads what another one writes. They also compile in one second instead of fifteen, and
the compiled code is cached beside the module. ``tests/benchmarks/bench_cluster.py`` compares the clusters.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numba
import numpy as np
from scipy import sparse

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray

__all__ = ["neighbor_layout"]

_SPREAD = 10.0  # half-width of the start
_CURVE = 1.577  # UMAP's a for min_dist = 0.1, spread = 1, with its b taken as 1
_NEGATIVES = 6  # random pairs per point and epoch; their pull is scaled to UMAP's 5 per positive edge
_REPULSION = 5.0
_GRAVITY = 0.1  # towards the middle: keeps unconnected islands from drifting off; measured to cost no accuracy
_RATE = 0.25
_MOMENTUM = 0.5
_CLIP = 4.0
_BLOCK = 4096  # points per task


def neighbor_layout(
    graph: sparse.csr_matrix, start: FloatArray, *, epochs: int = 200, seed: int = 0, rate: float = 1.0
) -> FloatArray:
    """Lay a graph out in as many dimensions as ``start`` has.

    Args:
        graph: ``(n, n)`` symmetric, weights in (0, 1].
        start: ``(n, c)`` first positions, for example principal components.
        epochs: passes over all edges.
        seed: of the negative samples; equal seeds give equal layouts, whatever the number of threads.
        rate: scales the learning rate; below 1 keeps the arrangement of ``start``.

    Returns:
        ``(n, c)`` float32.
    """
    n = len(start)
    if n < 2 or graph.nnz == 0:
        return np.zeros_like(start, dtype=np.float32)
    reach = float(np.abs(start).max()) or 1.0
    place = np.ascontiguousarray(start * (_SPREAD / reach), dtype=np.float32)
    weights = (graph.data / graph.data.max()).astype(np.float32)
    degree = np.add.reduceat(np.append(weights, 0), graph.indptr[:-1]) * (np.diff(graph.indptr) > 0)
    push = (_REPULSION * degree / _NEGATIVES).astype(np.float32)
    force, velocity = np.empty_like(place), np.zeros_like(place)
    links = (graph.indptr.astype(np.int32), graph.indices.astype(np.int32), weights, push)
    blocks = [(first, min(first + _BLOCK, n)) for first in range(0, n, _BLOCK)]
    with ThreadPoolExecutor(min(len(blocks), cpu_count() or 1)) as pool:
        for epoch in range(epochs):
            salt = np.uint64(seed * 1_000_003 + epoch + 1)
            tasks = [pool.submit(_forces, place, force, *links, salt, *block) for block in blocks]
            for task in tasks:
                task.result()
            step = rate * _RATE * (1.0 - epoch / epochs)
            force -= _GRAVITY * place
            length = np.linalg.norm(force, axis=1, keepdims=True)
            force *= step * np.minimum(1.0, _CLIP / np.maximum(length, 1e-12))
            velocity *= _MOMENTUM
            velocity += force
            place += velocity
    return place


@numba.njit(cache=True, nogil=True, fastmath=True)
def _forces(
    place: FloatArray,
    force: FloatArray,
    indptr: IntArray,
    indices: IntArray,
    weights: FloatArray,
    push: FloatArray,
    salt: np.uint64,
    first: int,
    last: int,
) -> None:
    """Write the force on points ``first`` to ``last`` into ``force``; reads positions only."""
    n, c = place.shape
    away = np.empty(c, dtype=np.float32)
    for i in range(first, last):
        for axis in range(c):
            force[i, axis] = 0.0
        for edge in range(indptr[i], indptr[i + 1]):
            squared = np.float32(0.0)
            for axis in range(c):
                away[axis] = place[indices[edge], axis] - place[i, axis]
                squared += away[axis] * away[axis]
            pull = np.float32(4.0 * _CURVE) * weights[edge] / (np.float32(1.0) + np.float32(_CURVE) * squared)
            for axis in range(c):
                force[i, axis] += pull * away[axis]
        # splitmix64, keyed by point and epoch: no state is shared between threads
        state = (np.uint64(i) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ salt * np.uint64(0xD1B54A32D192ED03)
        for _ in range(_NEGATIVES):
            state += np.uint64(0x9E3779B97F4A7C15)
            bits = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            other = np.int64((bits >> np.uint64(33)) % np.uint64(n))
            squared = np.float32(0.0)
            for axis in range(c):
                away[axis] = place[i, axis] - place[other, axis]
                squared += away[axis] * away[axis]
            strength = np.float32(2.0) / (
                (np.float32(0.001) + squared) * (np.float32(1.0) + np.float32(_CURVE) * squared)
            )
            for axis in range(c):
                shove = min(max(strength * away[axis], np.float32(-_CLIP)), np.float32(_CLIP))
                force[i, axis] += push[i] * shove
