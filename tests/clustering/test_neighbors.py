"""Neighbour lists against brute force, and the fuzzy graph against umap-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.distance import cdist

from llm2comp_apps.clustering.algorithms import neighbors
from llm2comp_apps.clustering.algorithms.neighbors import (
    fuzzy_graph,
    local_weights,
    nearest_neighbors,
    random_walk,
    self_neighbors,
)
from llm2comp_apps.errors import ClusteringError


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 60), d=st.integers(1, 12), seed=st.integers(0, 1000), data=st.data())
def test_nearest_neighbors_are_those_of_brute_force(n, d, seed, data):
    random = np.random.default_rng(seed)
    points, queries = random.standard_normal((n, d)), random.standard_normal((7, d))
    k = data.draw(st.integers(1, n))
    distances, indices = nearest_neighbors(points.astype(np.float32), queries.astype(np.float32), k)
    slow = np.sort(cdist(queries, points), axis=1)[:, :k]
    np.testing.assert_allclose(distances, slow, atol=2e-3)
    np.testing.assert_allclose(cdist(queries, points)[np.arange(7)[:, None], indices], slow, atol=2e-3)
    assert all(len(set(row)) == k for row in indices.tolist())


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 40), copies=st.integers(1, 40), seed=st.integers(0, 1000))
def test_no_point_is_its_own_neighbor_even_among_copies(n, copies, seed):
    points = np.random.default_rng(seed).standard_normal((n, 5)).astype(np.float32)
    points[: min(copies, n)] = points[0]
    k = max(1, min(6, n - 1))
    distances, indices = self_neighbors(points, k)
    assert distances.shape == indices.shape == (n, k)
    assert not (indices == np.arange(n)[:, None]).any()
    assert (np.diff(distances, axis=1) >= 0).all()


def test_inverted_file_finds_nearly_all_and_never_nothing(blobs, monkeypatch):
    """Also where a cluster of copies fills the lists that are probed: FAISS says -1 for what it did not find."""
    points, _ = blobs((300, 300, 300), spread=0.6)
    exact = self_neighbors(points, 10)[1]
    monkeypatch.setattr(neighbors, "EXACT_BELOW", 500)
    found = self_neighbors(points, 10)[1]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), found.tolist(), strict=True)])
    assert recall > 0.9
    lonely = np.vstack([np.repeat(points[:1], 895, axis=0), points[:5]])
    distances, indices = self_neighbors(lonely, 30)
    assert indices.min() >= 0
    assert np.isfinite(distances).all()


def test_local_weights_have_the_total_that_umap_asks_for():
    distances = np.sort(np.random.default_rng(0).random((50, 15)) + 0.1, axis=1)
    weights = local_weights(distances)
    np.testing.assert_allclose(weights.sum(axis=1), np.log2(16), atol=1e-4)
    assert (weights[:, 0] == 1).all()
    assert (np.diff(weights, axis=1) <= 0).all()


@pytest.mark.parametrize("distances", [np.zeros((4, 3)), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])])
def test_local_weights_of_copies_are_numbers(distances):
    weights = local_weights(distances)
    assert np.isfinite(weights).all()
    assert (weights[distances == 0] == 1).all()


def test_fuzzy_graph_is_that_of_umap(blobs):
    from umap.umap_ import fuzzy_simplicial_set

    points, _ = blobs()
    distances, indices = self_neighbors(points, 14)
    own = np.arange(len(points))[:, None]
    theirs = fuzzy_simplicial_set(
        points, 15, np.random.RandomState(0), "euclidean",
        knn_indices=np.hstack([own, indices]), knn_dists=np.hstack([np.zeros_like(own, np.float32), distances]),
    )[0]  # fmt: skip
    ours = fuzzy_graph(distances, indices)
    assert (ours != ours.T).nnz == 0
    assert 0 < ours.data.min() <= ours.data.max() <= 1
    # UMAP's bisection sums over the point itself too, so that its scales differ a little.
    assert ((ours != 0) != (theirs.tocsr() != 0)).nnz == 0
    assert np.corrcoef(ours.data, theirs.tocsr().sorted_indices().data)[0, 1] > 0.97


def test_random_walk_rows_sum_to_one_or_are_empty():
    walk = random_walk(sparse.csr_matrix(np.array([[0, 2.0, 0], [2.0, 0, 0], [0, 0, 0]], np.float32)))
    np.testing.assert_array_equal(np.asarray(walk.sum(axis=1)).ravel(), [1, 1, 0])


def test_without_faiss_one_line_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ClusteringError, match=r"pip install 'llm2comp-apps\[cpu\]'"):
        nearest_neighbors(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), 1)
