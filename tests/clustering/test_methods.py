"""The four methods find what is there; k is chosen by the silhouette; trees are cut as SciPy cuts them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from llm2comp_apps.clustering.algorithms import methods
from llm2comp_apps.clustering.algorithms.neighbors import fuzzy_graph, self_neighbors


@pytest.fixture
def clumps(blobs):
    points, truth = blobs((50, 40, 30, 20), noise=0)
    return points, truth, fuzzy_graph(*self_neighbors(points, 10))


def labels_of(method, points, graph, k):
    if method == "kmeans":
        return methods.kmeans(points, points, k, 0)
    cluster = {"agglomerative": methods.agglomerative, "spectral": methods.spectral}[method]
    return cluster(points, graph, points, k, 0) if method == "agglomerative" else cluster(graph, points, k, 0)


@pytest.mark.parametrize("k", [4, None])
@pytest.mark.parametrize("method", ["kmeans", "agglomerative", "spectral"])
def test_clear_clusters_are_found_with_and_without_their_number(method, k, clumps):
    points, truth, graph = clumps
    labels = labels_of(method, points, graph, k)
    assert labels.dtype == np.int32
    assert adjusted_rand_score(truth, labels) == 1.0


@pytest.mark.parametrize("method", ["kmeans", "agglomerative", "spectral"])
def test_k_is_k(method, clumps):
    points, _, graph = clumps
    for k in (2, 3, 7):
        assert len(np.unique(labels_of(method, points, graph, k))) == k


def graph_of(points):
    return fuzzy_graph(*self_neighbors(points, 10))


def test_hdbscan_leaves_noise_out(blobs):
    points, truth = blobs((50, 40, 30), dimension=3, spread=0.04, noise=15, seed=3)
    labels = methods.hdbscan(points, graph_of(points), 10, 5)
    assert adjusted_rand_score(truth[truth >= 0], labels[truth >= 0]) > 0.9
    assert (labels[truth < 0] < 0).mean() >= 0.5


@pytest.mark.parametrize("selection", ["leaf", "eom"])
def test_hdbscan_agrees_with_scikit_learn(selection, blobs):
    from sklearn.cluster import HDBSCAN

    points, _ = blobs((50, 40, 30), dimension=3, spread=0.1, noise=20)
    ours = methods.hdbscan(points, graph_of(points), 8, 4, selection)
    # scikit-learn counts a point as its own neighbour.
    theirs = HDBSCAN(min_cluster_size=8, min_samples=5, cluster_selection_method=selection, copy=True).fit(points)
    assert adjusted_rand_score(ours, theirs.labels_) > 0.95


@pytest.mark.parametrize("wins", ["leaf", "eom"])
def test_selection_takes_the_clusters_that_hold_together(wins):
    """Clear clumps, which the finest clusters cut up; and clumps of clumps, of which two hold everything."""
    random = np.random.default_rng(0)
    if wins == "eom":
        points = random.standard_normal((600, 2)) + 30 * np.eye(3)[np.repeat(range(3), 200), :2]
    else:
        centers = [(x + 200 * far, y) for far in (0, 1) for x in (0, 6, 12) for y in (0, 6, 12)]
        points = np.vstack([random.standard_normal((60, 2)) * 1.3 + center for center in centers])
    points = points.astype(np.float32)
    found = {s: methods.hdbscan(points, graph_of(points), 12, 5, s) for s in ("leaf", "eom", "auto")}
    assert adjusted_rand_score(found["leaf"], found["eom"]) < 0.95, "the case is no case"
    np.testing.assert_array_equal(found["auto"], found[wins])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), clusters=st.integers(1, 6))
def test_modularity_is_that_of_networkx(seed, clusters):
    import networkx

    random = np.random.default_rng(seed)
    weights = np.triu(random.random((12, 12)) * (random.random((12, 12)) < 0.5), 1)
    labels = random.integers(-1, clusters, 12).astype(np.int32)
    groups = [np.flatnonzero(labels == label).tolist() for label in range(clusters)]
    groups += [[i] for i in np.flatnonzero(labels < 0).tolist()]
    graph = networkx.from_numpy_array(weights + weights.T)
    expected = networkx.community.modularity(graph, [group for group in groups if group])
    assert methods.modularity(sparse.csr_matrix(weights + weights.T), labels) == pytest.approx(expected)


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.ones((1, 2)), np.eye(4)])
def test_hdbscan_of_fewer_points_than_a_cluster_needs_is_all_outliers(points):
    assert (methods.hdbscan(points.astype(np.float32), None, 5, 3) == -1).all()


def test_hdbscan_of_equal_points_and_of_points_without_a_split_is_one_cluster():
    assert (methods.hdbscan(np.ones((9, 2), np.float32), None, 5, 3) == 0).all()
    one = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    labels = methods.hdbscan(one, graph_of(one), 80, 5)
    assert set(labels.tolist()) == {0, -1}
    assert (labels == 0).mean() > 0.4


def test_chosen_k_has_the_best_silhouette(clumps):
    """Not on clear clusters, where all criteria agree: on four clumps of which two nearly touch."""
    points = clumps[0].copy()
    points[:50] = points[50:90].mean(axis=0) + 0.4 * points[:50]
    found = methods.kmeans(points, points, None, 0)
    scores = {
        k: silhouette_score(points, KMeans(k, random_state=0, n_init=3).fit(points).labels_)
        for k in methods.cluster_count_candidates(len(points))
    }
    assert len(np.unique(found)) == max(scores, key=scores.__getitem__)


@given(st.integers(3, 10**6))
def test_candidate_numbers_of_clusters(n):
    candidates = methods.cluster_count_candidates(n)
    assert candidates == sorted(set(candidates))
    assert candidates[0] == 2
    assert candidates[-1] <= max(2, min(200, n // 5))


@given(st.integers(1, 10**6))
def test_smallest_cluster_grows_with_the_corpus_but_slower(n):
    size = methods.default_cluster_size(n)
    assert 5 <= size <= methods.default_cluster_size(4 * n)
    assert size <= 5 or size < n


def test_ward_tree_is_cut_where_scipy_cuts_it(blobs):
    points, _ = blobs((20, 15, 12), spread=0.8)
    tree = linkage(points.astype(np.float64), "ward")
    for k in (1, 2, 5, 20, len(points)):
        ours = methods.agglomerative(points, None, points, k, 0)
        assert adjusted_rand_score(ours, fcluster(tree, k, "maxclust")) == 1.0


def test_agglomerative_follows_the_graph_above_a_size(clumps, monkeypatch):
    points, truth, graph = clumps
    monkeypatch.setattr(methods, "FULL_TREE_BELOW", 10)
    assert adjusted_rand_score(truth, methods.agglomerative(points, graph, points, 4, 0)) == 1.0


def test_kmeans_takes_mini_batches_above_a_size(clumps, monkeypatch):
    points, truth, _ = clumps
    monkeypatch.setattr(methods, "MINI_BATCH_ABOVE", 10)
    monkeypatch.setattr("sklearn.cluster.KMeans.fit", lambda *_: pytest.fail("not a mini-batch"))
    assert adjusted_rand_score(truth, methods.kmeans(points, points, 4, 0)) > 0.7


@pytest.mark.parametrize("n", [1, 2])
def test_k_chosen_for_one_or_two_points_is_one(n):
    points = np.eye(n, 3, dtype=np.float32)
    assert methods.kmeans(points, points, None, 0).tolist() == [0] * n


@pytest.mark.parametrize(("n", "size"), [(15, 5), (80, 7), (300, 8), (600, 8), (2_000, 25), (5_000, 57), (20_000, 113)])
def test_smallest_cluster_suits_small_and_large_corpora(n, size):
    assert methods.default_cluster_size(n) == size


def test_a_cluster_is_lopsided_beside_small_ones_only():
    assert methods.is_lopsided([60, 20, 20], 100)
    assert not methods.is_lopsided([50, 48], 100)
    assert not methods.is_lopsided([39, 10, 10], 100)
    assert not methods.is_lopsided([100], 100)


def test_a_cluster_that_dwarfs_the_others_is_split_where_its_parts_hold_together():
    """Six clumps in one place and two elsewhere: the most stable clusters would be three, one of them of 75 %."""
    random = np.random.default_rng(0)
    near = [(x, y) for x in (0, 4.5) for y in (0, 4.5, 9)]
    middles = np.array([*near, (60, 0), (0, 60)])
    truth = np.repeat(np.arange(8), 40)
    points = (middles[truth] + random.standard_normal((320, 2))).astype(np.float32)
    graph = fuzzy_graph(*self_neighbors(points, 15))
    found = methods.hdbscan(points, graph, 15, 10)
    assert np.bincount(found[found >= 0]).max() <= methods.BIG_SHARE * 320
    assert adjusted_rand_score(truth[found >= 0], found[found >= 0]) > 0.8
    whole = methods.hdbscan(points, graph, 15, 10, "eom")
    assert np.bincount(whole[whole >= 0]).max() > methods.BIG_SHARE * 320, "otherwise this proves nothing"


@pytest.mark.parametrize("size", range(3, 9))
@pytest.mark.parametrize("groups", [2, 3, 5])
def test_loose_groups_of_exactly_the_smallest_size_are_found(size, groups):
    """What a newcomer tries first: a few texts of each kind, as near to others as real texts are."""
    for seed in range(3):
        random = np.random.default_rng(seed)
        truth = np.repeat(np.arange(groups), size)
        angle = 2 * np.pi * truth / groups
        middles = np.column_stack([np.cos(angle), np.sin(angle)]) * groups
        points = (middles + 0.5 * random.standard_normal((len(truth), 2))).astype(np.float32)
        graph = fuzzy_graph(*self_neighbors(points, max(2, size - 1)))
        found = methods.hdbscan(points, graph, size, 10)
        assert adjusted_rand_score(truth, found) > 0.8
