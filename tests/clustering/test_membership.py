"""Soft membership against the linear equations it iterates; outlier policies; numbering."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from llm2comp_apps.clustering.algorithms.membership import (
    agree_on_copies,
    default_threshold,
    own_membership,
    ranks_by_size,
    renumber,
    settle_outliers,
    soft_membership,
)
from llm2comp_apps.clustering.algorithms.neighbors import fuzzy_graph, self_neighbors

LABELS = st.lists(st.integers(-1, 4), min_size=1, max_size=40).map(lambda values: np.array(values, np.int32))


@pytest.fixture
def graph(blobs):
    points, truth = blobs((30, 25), noise=12)
    return fuzzy_graph(*self_neighbors(points, 8)), truth.astype(np.int32)


def test_membership_solves_the_equations_of_the_walk(graph):
    """m = stop * label + (1 - stop) W m for labelled documents, m = (1 - lost) W m for outliers; solved directly."""
    links, labels = graph
    walk = links.toarray() / links.toarray().sum(axis=1, keepdims=True)
    known = labels >= 0
    onward = np.where(known, 0.5, 0.95)
    label = np.zeros((len(labels), 2))
    label[known, labels[known]] = 0.5
    expected = np.linalg.solve(np.eye(len(labels)) - onward[:, None] * walk, label)
    found = soft_membership(links, labels)
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_membership_sums_to_at_most_one_and_is_certain_of_the_own_topic(graph):
    links, labels = graph
    membership = soft_membership(links, labels)
    assert membership.shape == (len(labels), 2)
    assert membership.min() >= 0
    assert membership.sum(axis=1).max() <= 1 + 1e-5
    inside = np.flatnonzero(labels >= 0)
    assert membership[inside, labels[inside]].min() >= 0.5
    outside = labels < 0
    assert membership[outside].sum(axis=1).max() < membership[inside].sum(axis=1).min()


def test_a_document_without_neighbors_is_certain_and_an_outlier_without_them_belongs_nowhere():
    membership = soft_membership(sparse.csr_matrix((2, 2), dtype=np.float32), np.array([0, -1], np.int32))
    np.testing.assert_array_equal(membership, [[1.0], [0.0]])


def test_without_topics_there_is_no_membership():
    assert soft_membership(sparse.csr_matrix((3, 3), dtype=np.float32), np.full(3, -1, np.int32)).shape == (3, 0)
    assert own_membership(np.full(3, -1, np.int32), np.zeros((3, 0), np.float32)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("topics", "least"), [(0, 2), (1, 2), (2, 1), (4, 0.5), (8, 0.25), (10, 0.2), (300, 0.2)])
def test_threshold_is_twice_the_even_share_and_at_least_a_fifth(topics, least):
    assert default_threshold(topics) == least


def test_outlier_policies():
    labels = np.array([0, -1, -1, -1, 1], np.int32)
    membership = np.array([[0.9, 0], [0.5, 0.1], [0.05, 0.1], [0, 0], [0.1, 0.8]], np.float32)
    assert settle_outliers(labels, membership, "keep", 0.2).tolist() == [0, -1, -1, -1, 1]
    assert settle_outliers(labels, membership, "threshold", 0.2).tolist() == [0, 0, -1, -1, 1]
    assert settle_outliers(labels, membership, "nearest", 0.2).tolist() == [0, 0, 1, 0, 1]
    none = np.full(2, -1, np.int32)
    assert settle_outliers(none, np.zeros((2, 0), np.float32), "nearest", 0.2).tolist() == [-1, -1]


@given(labels=LABELS, data=st.data())
@settings(max_examples=60, deadline=None)
def test_copies_agree_on_the_label_of_most(labels, data):
    keys = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(labels), max_size=len(labels))), np.uint64)
    found = agree_on_copies(labels, keys)
    for key in np.unique(keys):
        own = labels[keys == key].tolist()
        expected = min(set(own), key=lambda label: (-own.count(label), label))
        assert (found[keys == key] == expected).all()


@given(labels=LABELS)
def test_numbers_by_size_keep_the_partition(labels):
    ranks = ranks_by_size(labels)
    found = renumber(labels, ranks)
    assert ((found < 0) == (labels < 0)).all()
    assert ((found[:, None] == found) == (labels[:, None] == labels)).all()
    sizes = np.bincount(found[found >= 0])
    assert (sizes > 0).all()
    assert (np.diff(sizes) <= 0).all()
