"""Exact top-k against sorting everything, and the float16 conversions under it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm2comp_indexes.errors import InputError
from llm2comp_indexes.topk import TopDocuments
from llm2comp_indexes.vectors import narrow, normalised, widen


def reference(scores: np.ndarray, nums: np.ndarray, k: int) -> list[tuple[int, float]]:
    """The k best documents by their best row, the earlier row first among equals: (row, score)."""
    best: dict[int, tuple[int, float]] = {}
    for row in np.lexsort((np.arange(len(nums)), -scores)).tolist():
        best.setdefault(int(nums[row]), (row, float(scores[row])))
    return list(best.values())[:k]


@given(
    data=st.data(),
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=40),
    queries=st.integers(1, 4),
    k=st.integers(1, 12),
    levels=st.integers(1, 50),
    block=st.integers(1, 30),
)
def test_top_documents_are_those_of_a_full_sort(data, counts, queries, k, levels, block):
    nums = np.repeat(np.arange(len(counts)) * 3 + 5, counts)
    flat = data.draw(st.lists(st.integers(0, levels), min_size=queries * len(nums), max_size=queries * len(nums)))
    scores = np.array(flat, dtype=np.float32).reshape(queries, len(nums)) / 7
    top = TopDocuments(queries, k, nums, max(counts))
    for start in range(0, len(nums), block):
        rows = np.arange(start, min(start + block, len(nums)))
        top.add(rows, scores[:, rows])
    for ranking, row_scores in zip(top.rankings(), scores, strict=True):
        found = list(zip(ranking.rows, ranking.scores, strict=True))
        assert found == reference(row_scores, nums, k)


@given(data=st.data(), rows=st.integers(1, 60), k=st.integers(1, 12))
def test_candidates_offered_one_by_one_make_the_same_ranking(data, rows, k):
    nums = np.sort(np.array(data.draw(st.lists(st.integers(0, 20), min_size=rows, max_size=rows))))
    scores = np.array(data.draw(st.lists(st.integers(0, 9), min_size=rows, max_size=rows)), dtype=np.float32)
    most = int(np.bincount(nums).max())
    top = TopDocuments(1, k, nums, most)
    for row in data.draw(st.permutations(range(rows))):
        top.add_candidates(np.array([0]), np.array([row]), scores[row : row + 1])
    (ranking,) = top.rankings()
    assert list(zip(ranking.rows, ranking.scores, strict=True)) == reference(scores, nums, k)


def test_widening_is_exact_for_every_finite_float16():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    wide = widen(finite, np.empty(len(finite), dtype=np.float32))
    np.testing.assert_array_equal(wide, finite.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(wide), np.signbit(finite))


def test_narrowing_refuses_what_would_become_infinite():
    assert narrow(np.array([[65504.0]], dtype=np.float32), "x").dtype == np.float16
    with pytest.raises(InputError):
        narrow(np.array([[65520.0]], dtype=np.float32), "x")


@given(st.floats(1e-30, 1e30))
def test_rows_of_any_length_can_be_normalised(scale):
    matrix = np.array([[3.0, 4.0]], dtype=np.float64) * scale
    unit = normalised(matrix.astype(np.float32), "x")
    np.testing.assert_allclose(unit, [[0.6, 0.8]], rtol=1e-4)
