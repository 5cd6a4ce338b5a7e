"""Scores against scikit-learn's and hdbscan's own, and where they are not defined."""

from __future__ import annotations

import numpy as np
import pytest
from hdbscan.validity import validity_index
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    adjusted_rand_score,
    completeness_score,
    homogeneity_score,
    normalized_mutual_info_score,
    silhouette_score,
)

from llm2comp_apps.clustering.algorithms import quality


@pytest.fixture
def clustered(blobs):
    vectors, truth = blobs((40, 30, 20), dimension=6, spread=0.3, noise=10)
    return vectors, truth.astype(np.int32)


def test_silhouette_is_that_of_scikit_learn_without_outliers(clustered):
    vectors, labels = clustered
    inside = labels >= 0
    expected = silhouette_score(vectors[inside], labels[inside], metric="cosine")
    assert quality.silhouette(vectors, labels) == pytest.approx(expected, abs=1e-6)


def test_dbcv_is_that_of_hdbscan_without_outliers(clustered):
    points, labels = clustered
    inside = labels >= 0
    expected = validity_index(points[inside].astype(np.float64), labels[inside].astype(np.intp))
    assert quality.density_validity(points, labels) == pytest.approx(expected)
    assert quality.density_validity(points, labels) > quality.density_validity(points, np.arange(100) % 3)


def test_large_corpora_are_sampled_and_the_sample_is_the_same_each_time(clustered, monkeypatch):
    vectors, labels = clustered
    whole = quality.silhouette(vectors, labels)
    monkeypatch.setattr(quality, "SAMPLE", 60)
    assert quality.silhouette(vectors, labels) == quality.silhouette(vectors, labels) != whole
    assert quality.silhouette(vectors, labels) == pytest.approx(whole, abs=0.1)


@pytest.mark.parametrize("labels", [[-1] * 6, [0] * 6, [0, 1, 2, 3, 4, 5], [0, -1, -1, -1, -1, -1]])
def test_scores_that_are_not_defined_are_none(labels):
    vectors, labels = np.eye(6, dtype=np.float32), np.array(labels, np.int32)
    assert quality.silhouette(vectors, labels) is None
    assert quality.density_validity(vectors, labels) is None


def test_dbcv_of_many_dimensions_or_equal_points_is_none_not_an_error():
    labels = np.repeat([0, 1], 10).astype(np.int32)
    assert quality.density_validity(np.random.default_rng(0).random((20, 21), np.float32), labels) is None
    assert quality.density_validity(np.zeros((20, 2), np.float32), labels) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 3)), min_size=1, max_size=40))
def test_agreement_is_that_of_scikit_learn_and_purity_that_of_its_definition(pairs):
    truth, labels = [a for a, _ in pairs], np.array([b for _, b in pairs], np.int32)
    scores = quality.agreement(truth, labels)
    assert scores["ari"] == pytest.approx(adjusted_rand_score(truth, labels))
    assert scores["nmi"] == pytest.approx(normalized_mutual_info_score(truth, labels))
    h, c = homogeneity_score(truth, labels), completeness_score(truth, labels)
    assert scores["v_measure"] == pytest.approx(2 * h * c / (h + c) if h + c else 0.0)
    most = [max(np.count_nonzero(np.array(truth)[labels == k] == t) for t in "abc") for k in set(labels.tolist())]
    assert scores["purity"] == pytest.approx(sum(most) / len(pairs))
