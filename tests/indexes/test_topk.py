"""Exact top-k against sorting everything, and the float16 conversions under it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm2comp_indexes.dense.refine import Refiner
from llm2comp_indexes.dense.topk import TopDocuments, best_of_each_sorted, best_of_sorted
from llm2comp_indexes.dense.vectors import as_queries, narrow, normalised, widen
from llm2comp_indexes.errors import IndexDamagedError, InputError
from llm2comp_indexes.storage.checked import CheckedRows
from llm2comp_indexes.storage.fs import record_file


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


@given(data=st.data(), queries=st.integers(1, 5), count=st.integers(1, 30), k=st.integers(1, 40))
def test_many_sorted_candidates_rank_as_those_of_one_query_do(data, queries, count, k):
    rows = np.array([data.draw(st.permutations(range(count))) for _ in range(queries)])
    absent = data.draw(st.lists(st.booleans(), min_size=rows.size, max_size=rows.size))
    rows[np.reshape(absent, rows.shape) & data.draw(st.booleans())] = -1
    drawn = data.draw(st.lists(st.integers(0, 60), min_size=rows.size, max_size=rows.size))
    scores = -np.sort(-np.float32(drawn).reshape(rows.shape))
    kept = [(r[r >= 0], s[r >= 0]) for r, s in zip(rows, scores, strict=True)]
    assert best_of_each_sorted(rows, scores, k) == [best_of_sorted(*both, k) for both in kept]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """1,000 rows of width 32, some of them equal."""
    path = tmp_path_factory.mktemp("rows") / "vectors.f16"
    draw = np.random.default_rng(0)
    draw.standard_normal((700, 32)).astype("<f2")[draw.integers(0, 700, 1000)].tofile(path)
    return CheckedRows(path, record_file(path), (32,))


def test_refined_candidates_are_the_best_by_exact_scores_alone_or_among_others(stored):
    draw = np.random.default_rng(1)
    refiner = Refiner(32)
    for queries, count, k in [(1, 40, 10), (7, 40, 10), (7, 5, 10), (2, 900, 900), (300, 12, 1)]:
        query = draw.standard_normal((queries, 32), dtype=np.float32)
        candidates = np.stack([draw.permutation(1000)[:count] for _ in range(queries)])
        together = refiner.best_of_each(query, stored, candidates, k)
        assert together == [
            refiner.best(one[None], stored, rows, k) for one, rows in zip(query, candidates, strict=True)
        ]
        for one, rows, ranking in zip(query, candidates, together, strict=True):
            exact = stored.array[rows].astype(np.float32) @ one
            order = np.lexsort((rows, -exact))[:k]
            np.testing.assert_allclose(ranking.scores, exact[order], rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(stored.array[ranking.rows], stored.array[rows[order]])


def test_what_is_no_candidate_is_not_in_the_ranking(stored):
    candidates = np.array([[5, -1, 9, -1], [-1, -1, -1, -1], [3, 2, 1, 0]])
    rankings = Refiner(32).best_of_each(np.ones((3, 32), dtype=np.float32), stored, candidates, 3)
    assert [sorted(ranking.rows) for ranking in rankings[:2]] == [[5, 9], []]
    assert len(rankings[2].rows) == 3


def test_no_row_is_read_unchecked_not_even_in_place_of_none(tmp_path):
    path = tmp_path / "vectors.f16"
    np.random.default_rng(3).standard_normal((9000, 32)).astype("<f2").tofile(path)
    record = record_file(path)
    with path.open("r+b") as file:
        file.write(b"\xff")
    rows = CheckedRows(path, record, (32,))
    query = np.ones((1, 32), dtype=np.float32)
    assert Refiner(32).best(query[:1], rows, np.array([8000, 8001]), 2).rows
    with pytest.raises(IndexDamagedError):
        Refiner(32).best_of_each(query, rows, np.array([[8000, -1]]), 2)


def test_threads_refine_their_own_rows(stored):
    draw = np.random.default_rng(2)
    refiner, queries = Refiner(32), draw.standard_normal((200, 1, 32), dtype=np.float32)
    rows = [draw.permutation(1000)[:count] for count in draw.integers(1, 90, len(queries))]
    wanted = [Refiner(32).best(*both, 10) for both in zip(queries, [stored] * 200, rows, strict=True)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(refiner.best, queries, [stored] * 200, rows, [10] * 200)) == wanted


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
