"""TopicClusterer: scikit-learn's rules, the same answer twice, and predict that agrees with fit."""

from __future__ import annotations

import pickle

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import check_estimator

from llm2comp_apps.clustering import TopicClusterer
from llm2comp_apps.clustering.algorithms import layout
from llm2comp_apps.clustering.algorithms.assign import Assigner, hash_rows

METHODS = ("hdbscan", "kmeans", "agglomerative", "spectral")


def assert_predicts_what_it_fitted(model, vectors):
    np.testing.assert_array_equal(model.predict(vectors), model.labels_)
    labels, membership = model.predict_membership(vectors)
    np.testing.assert_array_equal(labels, model.labels_)
    np.testing.assert_array_equal(membership, model.membership_)


@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input")
@pytest.mark.parametrize("method", METHODS)
def test_scikit_learn_checks(method):
    """All of them; the one about array API inputs is passed over where SCIPY_ARRAY_API is not set."""
    results = check_estimator(TopicClusterer(method, n_clusters=None if method == "hdbscan" else 3), on_fail=None)
    failed = [r for r in results if r["status"] != "passed" and r["check_name"] != "check_array_api_input"]
    assert not failed, [(r["check_name"], r["status"], r["exception"]) for r in failed]
    assert len(results) > 40


@pytest.mark.parametrize("method", METHODS)
def test_clear_clusters_are_found(method, blobs):
    vectors, truth = blobs((60, 50, 40))
    model = TopicClusterer(method).fit(vectors)
    assert adjusted_rand_score(truth, model.labels_) > 0.97
    assert model.n_clusters_ == 3
    assert model.labels_.dtype == np.int32
    assert np.bincount(model.labels_[model.labels_ >= 0]).tolist() == sorted(np.bincount(truth), reverse=True)


@pytest.mark.parametrize("reduce", ["neighbor", "pca", "none"])  # UMAP, slow to compile, is in test_reduce.py
@pytest.mark.parametrize("method", METHODS)
def test_fit_predict_and_reload_agree_for_each_method_and_reduction(method, reduce, blobs):
    vectors, _ = blobs((30, 25, 20), noise=15, spread=0.5)
    model = TopicClusterer(method, reduce=reduce, n_clusters=None if method == "hdbscan" else 3).fit(vectors)
    assert_predicts_what_it_fitted(model, vectors)
    assert_predicts_what_it_fitted(pickle.loads(pickle.dumps(model)), vectors)
    assert_predicts_what_it_fitted(clone(model).fit(vectors), vectors)
    stored = Assigner.restore(model.assigner_.arrays(), model.assigner_.settings())
    np.testing.assert_array_equal(stored.assign(vectors)[0], model.labels_)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e6, 0.0), (1.0, 1e4)])
def test_neighbours_of_any_size_are_found_by_euclidean_distance(scale, offset, blobs):
    vectors, truth = blobs((30, 25), spread=0.1)
    vectors = scale * vectors + np.float32(offset)
    model = TopicClusterer("kmeans", n_clusters=2, reduce="none", metric="euclidean").fit(vectors)
    assert adjusted_rand_score(truth, model.labels_) == 1
    np.testing.assert_array_equal(model.predict(vectors + np.float32(0.01 * scale)), model.labels_)


@pytest.mark.parametrize("reduce", ["neighbor", "none"])
@pytest.mark.parametrize("method", ["kmeans", "agglomerative", "spectral"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_many_topics_as_vectors_are_made_where_they_are_asked_for(count, method, reduce):
    vectors = np.eye(3, 8, dtype=np.float32)[:count]
    model = TopicClusterer(method, n_clusters=count, reduce=reduce).fit(vectors)
    assert sorted(model.labels_.tolist()) == list(range(count))


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    policy=st.sampled_from(["keep", "nearest", "threshold"]),
    metric=st.sampled_from(["cosine", "euclidean"]),
    copies=st.integers(0, 30),
    spread=st.floats(0.1, 2.0),
)
def test_invariants(seed, policy, metric, copies, spread, blobs):
    """On data of any difficulty, with copies of some rows."""
    vectors, _ = blobs((25, 20, 15), spread=spread, noise=10, seed=seed)
    vectors = np.vstack([vectors, vectors[:copies]])
    model = TopicClusterer(outliers=policy, metric=metric, min_cluster_size=8).fit(vectors)
    labels, membership = model.labels_, model.membership_
    assert_predicts_what_it_fitted(model, vectors)
    assert membership.shape == (len(vectors), model.n_clusters_)
    assert membership.min(initial=0) >= 0
    assert membership.sum(axis=1).max() <= 1 + 1e-5
    sizes = np.bincount(labels[labels >= 0], minlength=model.n_clusters_)
    assert (np.diff(sizes) <= 0).all()
    assert len(sizes) == model.n_clusters_
    np.testing.assert_array_equal(labels[len(vectors) - copies :], labels[:copies])
    assert ((model.probabilities_ == 0) >= (labels < 0)).all()
    if model.n_clusters_:
        outside = labels < 0
        if policy == "nearest":
            assert not outside.any()
        if policy == "threshold":
            least = max(0.2, 2 / model.n_clusters_)
            assert (membership[outside].max(axis=1, initial=0) < least).all()
            assert (membership[model.inside_].max(axis=1, initial=0) >= 0.5).all()


def test_two_fits_are_equal_whatever_the_number_of_threads(blobs, monkeypatch):
    vectors, _ = blobs((200, 150, 100), dimension=64, spread=0.8, noise=50)
    monkeypatch.setattr(layout, "_BLOCK", 64)
    fitted = []
    before = faiss.omp_get_max_threads()
    try:
        for threads in (1, 3):
            faiss.omp_set_num_threads(threads)
            monkeypatch.setattr(layout, "cpu_count", lambda count=threads: count)
            fitted.append(TopicClusterer(min_cluster_size=10).fit(vectors))
    finally:
        faiss.omp_set_num_threads(before)
    one, other = fitted
    np.testing.assert_array_equal(one.embedding_, other.embedding_)
    np.testing.assert_array_equal(one.labels_, other.labels_)
    np.testing.assert_array_equal(one.membership_, other.membership_)


def test_the_seed_counts(blobs):
    vectors, _ = blobs((60, 50, 40), spread=0.8)
    one, other = (TopicClusterer(random_state=seed).fit(vectors).embedding_ for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_new_vectors_go_where_their_neighbors_are_and_far_ones_nowhere(blobs):
    vectors, truth = blobs((80, 60, 50), seed=1)
    model = TopicClusterer(outliers="keep").fit(vectors[::2])
    found = model.predict(vectors[1::2])
    inside = found >= 0
    assert inside.mean() > 0.9
    assert adjusted_rand_score(truth[1::2][inside], found[inside]) == 1.0
    far = -vectors[:50].mean(axis=0, keepdims=True)
    assert model.predict(far).tolist() == [-1]
    assert TopicClusterer(outliers="nearest").fit(vectors).predict(far)[0] >= 0


@pytest.mark.parametrize("method", METHODS)
def test_new_vectors_join_one_of_two_topics(method, blobs):
    """No outlier can belong to one of two topics by the threshold that is asked of it; others are not asked."""
    vectors, truth = blobs((80, 60), seed=1)
    model = TopicClusterer(method, n_clusters=None if method == "hdbscan" else 2).fit(vectors[::2])
    assert model.n_clusters_ == 2
    found = model.predict(vectors[1::2])
    inside = found >= 0
    assert inside.mean() > 0.9
    assert adjusted_rand_score(truth[1::2][inside], found[inside]) == 1.0


def test_assignment_does_not_depend_on_the_other_new_vectors(blobs):
    vectors, _ = blobs((80, 60, 50), spread=0.7)
    model = TopicClusterer().fit(vectors[:150])
    together = model.predict(vectors[150:])
    alone = [model.predict(row[None])[0] for row in vectors[150:]]
    assert together.tolist() == alone


def test_merging_topics_is_followed_by_everything(blobs):
    vectors, _ = blobs((60, 50, 40, 30))
    model = TopicClusterer().fit(vectors)
    before, membership = model.labels_.copy(), model.membership_.copy()
    numbers = model.merge_topics([7, 7, 3, 1])
    assert numbers.tolist() == [0, 0, 1, 2]
    np.testing.assert_array_equal(model.labels_, np.append(numbers, -1)[before])
    np.testing.assert_allclose(model.membership_[:, 0], membership[:, :2].sum(axis=1), atol=1e-6)
    assert model.n_clusters_ == 3
    assert_predicts_what_it_fitted(model, vectors)


def test_hash_of_rows_is_of_their_numbers():
    rows = np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0 + 1e-7]], np.float32)
    one, other, another = hash_rows(rows).tolist()
    assert one == other != another
    assert hash_rows(np.asfortranarray(rows)).tolist() == [one, other, another]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 11])
@pytest.mark.parametrize("method", METHODS)
def test_a_handful_of_documents(method, n, blobs):
    vectors = blobs((n,))[0]
    model = TopicClusterer(method).fit(vectors)
    assert len(model.labels_) == n
    assert_predicts_what_it_fitted(model, vectors)
    if method == "hdbscan" and n < 5:
        assert (model.labels_ == -1).all()
    assert len(model.predict(blobs((3,), seed=9)[0])) == 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_documents_are_one_topic(method, value):
    vectors = np.full((40, 6), value, np.float32)
    model = TopicClusterer(method).fit(vectors)
    assert model.labels_.tolist() == [0] * 40
    assert_predicts_what_it_fitted(model, vectors)


@pytest.mark.parametrize("method", ["kmeans", "agglomerative", "spectral"])
@pytest.mark.parametrize("k", [1, 2, 9, 10])
def test_any_number_of_clusters_up_to_the_number_of_documents(method, k, blobs):
    vectors, _ = blobs((4, 3, 3), spread=0.5)
    assert TopicClusterer(method, n_clusters=k).fit(vectors).n_clusters_ == k


def test_more_clusters_asked_for_than_documents_differ(blobs):
    vectors = np.repeat(blobs((3,))[0], 10, axis=0)
    for method in ("kmeans", "agglomerative", "spectral"):
        model = TopicClusterer(method, n_clusters=8).fit(vectors)
        assert 1 <= model.n_clusters_ <= 3
        assert_predicts_what_it_fitted(model, vectors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "dbscan"}, "method is 'dbscan'; it must be one of hdbscan, kmeans"),
        ({"reduce": "tsne"}, "reduce is 'tsne'"),
        ({"outliers": "drop"}, "outliers is 'drop'"),
        ({"metric": "dot"}, "metric is 'dot'"),
        ({"cluster_selection": "all"}, "cluster_selection is 'all'"),
        ({"min_cluster_size": 1}, "min_cluster_size is 1; it must be at least 2"),
        ({"n_neighbors": 0}, "n_neighbors is 0"),
        ({"outlier_threshold": 1.5}, "outlier_threshold is 1.5; it must be between 0 and 1"),
        ({"method": "kmeans", "n_clusters": 31}, "n_clusters=31 must be <= n_samples=30"),
    ],
)
def test_parameters_that_make_no_sense(change, message, blobs):
    with pytest.raises(ValueError, match=message):
        TopicClusterer(**change).fit(blobs((30,))[0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_numbers(value, blobs):
    vectors = blobs((30,))[0]
    model = TopicClusterer().fit(vectors)
    bad = vectors.copy()
    bad[3, 2] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        TopicClusterer().fit(bad)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        model.predict(bad)


@pytest.mark.parametrize("size", [5, 6, 8, 10, 15])
@pytest.mark.parametrize("groups", [3, 5])
def test_groups_of_just_the_smallest_size_are_found(groups, size):
    """Five texts on each of three subjects are what a newcomer tries first."""
    for seed in range(3):
        random = np.random.default_rng(seed)
        truth = np.repeat(np.arange(groups), size)
        vectors = random.standard_normal((groups, 64))[truth] + 0.15 * random.standard_normal((len(truth), 64))
        labels = TopicClusterer(min_cluster_size=size).fit_predict(vectors.astype(np.float32))
        assert adjusted_rand_score(truth, labels) == 1.0, (seed, labels)


@pytest.mark.parametrize("copies", [2, 40])
def test_copies_do_not_make_new_documents_outliers(blobs, copies):
    vectors, _ = blobs((60, 60, 60))
    fitted, new = vectors[::2], vectors[1::2]
    alone = TopicClusterer("kmeans", n_clusters=3).fit(fitted)
    often = TopicClusterer("kmeans", n_clusters=3).fit(np.repeat(fitted, copies, axis=0))
    assert often.assigner_.reach == pytest.approx(alone.assigner_.reach, rel=0.3) or copies == 40
    assert (often.predict(new) >= 0).mean() >= (alone.predict(new) >= 0).mean() > 0.9


@pytest.mark.parametrize("count", [1, 30])
def test_equal_documents_say_nothing_about_what_is_far(count):
    model = TopicClusterer("kmeans", n_clusters=1).fit(np.ones((count, 8), np.float32))
    assert model.predict(np.eye(8, dtype=np.float32)).tolist() == [model.labels_[0]] * 8
