"""Exact top-k against sorting everything, and the float16 conversions under it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm2comp_indexes.ann import RowScorer
from llm2comp_indexes.errors import InputError
from llm2comp_indexes.topk import TopDocuments, best_of_sorted
from llm2comp_indexes.vectors import as_queries, narrow, normalised, widen


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


@given(scores=st.lists(st.integers(0, 9), min_size=1, max_size=60), k=st.integers(1, 12), seed=st.integers(0, 99))
def test_sorted_candidates_rank_as_a_full_sort_does(scores, k, seed):
    rows, scores = np.random.default_rng(seed).permutation(len(scores)), np.sort(np.float32(scores))[::-1]
    ranking = best_of_sorted(rows, scores, k)
    by_row = np.empty_like(scores)
    by_row[rows] = scores
    assert list(zip(ranking.rows, ranking.scores, strict=True)) == reference(by_row, np.arange(len(rows)), k)


def test_threads_score_their_own_rows():
    draw = np.random.default_rng(0)
    scorer, queries = RowScorer(32), draw.standard_normal((200, 1, 32), dtype=np.float32)
    rows = [draw.standard_normal((count, 32)).astype(np.float16) for count in draw.integers(1, 90, len(queries))]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(scorer.best_first, queries, rows))
    for query, vectors, (scores, places) in zip(queries, rows, found, strict=True):
        assert sorted(places) == list(range(len(vectors)))
        assert (np.diff(scores) <= 0).all()
        np.testing.assert_allclose(scores, (vectors.astype(np.float32) @ query[0])[places], rtol=1e-4, atol=1e-4)


@given(exponent=st.integers(-40, 37), sign=st.sampled_from((-1, 1)))
def test_one_query_is_checked_and_scaled_as_many_are(exponent, sign):
    query = np.array([0.3, -1, 2, 0.7], dtype=np.float32) * np.float32(sign * 10.0**exponent)
    one, (first, second) = as_queries(query, 4, cosine=True), as_queries([query, query], 4, cosine=True)
    assert one.shape == (1, 4)
    np.testing.assert_allclose(one[0], first, rtol=1e-6)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(as_queries(query, 4, cosine=False), query[None])


@pytest.mark.parametrize("query", [[0, 0, 0, 0], [1, np.nan, 0, 0], [np.inf, 0, 0, 0], [1, 2, 3], 5, [[[1, 2, 3, 4]]]])
def test_one_query_that_cannot_be_is_refused(query):
    with pytest.raises(InputError, match=r"^query"):
        as_queries(query, 4, cosine=True)


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
