"""Layout and reductions: neighbours stay together, and the result depends on the data and the seed alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from llm2comp_apps.clustering.algorithms import layout
from llm2comp_apps.clustering.algorithms.layout import neighbor_layout
from llm2comp_apps.clustering.algorithms.neighbors import fuzzy_graph, self_neighbors
from llm2comp_apps.clustering.algorithms.reduce import Neighborhood, map_positions, principal_components, reduce_vectors


@pytest.fixture
def placed(blobs):
    vectors, truth = blobs((120, 100, 80, 60), dimension=48, spread=0.9)
    distances, indices = self_neighbors(vectors, 15)
    return vectors, truth, Neighborhood(distances, indices, fuzzy_graph(distances, indices))


def test_layout_keeps_neighbors_better_than_a_projection(placed):
    vectors, truth, neighborhood = placed
    start = principal_components(vectors, 2)
    flat = neighbor_layout(neighborhood.graph, start)
    assert trustworthiness(vectors, flat) > trustworthiness(vectors, start) + 0.02
    nearest = self_neighbors(flat, 5)[1]
    assert (truth[nearest] == truth[:, None]).mean() > 0.98


def test_layout_does_not_depend_on_how_the_work_is_split(placed, monkeypatch):
    vectors, _, neighborhood = placed
    start = principal_components(vectors, 2)
    whole = neighbor_layout(neighborhood.graph, start, epochs=50)
    for block, threads in ((7, 4), (100, 2)):
        monkeypatch.setattr(layout, "_BLOCK", block)
        monkeypatch.setattr(layout, "cpu_count", lambda count=threads: count)
        np.testing.assert_array_equal(neighbor_layout(neighborhood.graph, start, epochs=50), whole)
    assert not np.array_equal(neighbor_layout(neighborhood.graph, start, epochs=50, seed=1), whole)


def test_layout_does_not_change_its_input(placed):
    vectors, _, neighborhood = placed
    start = principal_components(vectors, 2)
    kept = start.copy(), neighborhood.graph.copy()
    neighbor_layout(neighborhood.graph, start, epochs=3)
    np.testing.assert_array_equal(start, kept[0])
    assert (neighborhood.graph != kept[1]).nnz == 0


def test_layout_of_points_that_coincide_or_have_no_neighbors_is_finite():
    alone = neighbor_layout(sparse.csr_matrix((3, 3), dtype=np.float32), np.ones((3, 2), np.float32))
    assert alone.tolist() == [[0, 0]] * 3
    graph = fuzzy_graph(np.zeros((4, 3), np.float32), np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]))
    assert np.isfinite(neighbor_layout(graph, np.zeros((4, 2), np.float32))).all()
    pieces = sparse.block_diag([graph, graph, sparse.csr_matrix((2, 2))]).tocsr().astype(np.float32)
    assert np.isfinite(neighbor_layout(pieces, np.random.default_rng(0).random((10, 2), np.float32))).all()


@pytest.mark.parametrize("shape", [(50, 8), (8, 50)])
def test_principal_components_are_those_of_scikit_learn(shape):
    vectors = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = PCA(3, svd_solver="full").fit_transform(vectors)
    np.testing.assert_allclose(np.abs(principal_components(vectors, 3)), np.abs(expected), atol=1e-3)


def test_missing_components_are_zero():
    vectors = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)
    components = principal_components(vectors, 5)
    assert components.shape == (3, 5)
    assert not components[:, 2:].any()
    equal = np.repeat(vectors[:1] / 3, 7, axis=0)
    assert not principal_components(equal, 2).any()


@pytest.mark.parametrize(("method", "width"), [("neighbor", 2), ("umap", 5), ("pca", 10), ("none", 48)])
def test_reductions_have_their_width_and_are_repeatable(method, width, placed):
    vectors, truth, neighborhood = placed
    reduced = reduce_vectors(vectors, neighborhood, method, None, 0)
    assert reduced.shape == (len(vectors), width)
    assert reduced.dtype == np.float32
    np.testing.assert_array_equal(reduced, reduce_vectors(vectors, neighborhood, method, None, 0))
    nearest = self_neighbors(reduced, 5)[1]
    assert (truth[nearest] == truth[:, None]).mean() > 0.9
    if method != "none":
        assert reduce_vectors(vectors, neighborhood, method, 3, 0).shape == (len(vectors), 3)
    places = map_positions(vectors, neighborhood, reduced, method, 0)
    assert places.shape == (len(vectors), 2)
    assert (places is reduced) == (method == "neighbor")
