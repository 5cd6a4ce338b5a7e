"""Fusion against slow references written from the formulas, and the properties the formulas promise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.fusion import RRF_K, fuse, min_max_average, reciprocal_rank_fusion

SCORES = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False, width=32)
RANKINGS = st.lists(
    st.dictionaries(st.sampled_from("abcdefghij"), SCORES, max_size=8).map(
        lambda scores: sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
    ),
    max_size=3,
)


def slow_min_max(rankings):
    documents = {document for ranking in rankings for document, _ in ranking}

    def term(ranking, document):
        scores = dict(ranking)
        if document not in scores:
            return 0.0
        low, high = min(scores.values()), max(scores.values())
        return 1.0 if low == high else (scores[document] - low) / (high - low)

    return {d: sum(term(ranking, d) for ranking in rankings) / len(rankings) for d in documents}


def slow_rrf(rankings):
    documents = {document for ranking in rankings for document, _ in ranking}
    orders = [[document for document, _ in ranking] for ranking in rankings]
    return {d: sum(1 / (RRF_K + 1 + order.index(d)) for order in orders if d in order) for d in documents}


@given(RANKINGS)
def test_both_equal_their_formulas(rankings):
    assert dict(min_max_average(rankings)) == pytest.approx(slow_min_max(rankings))
    assert dict(reciprocal_rank_fusion(rankings)) == pytest.approx(slow_rrf(rankings))


@given(RANKINGS)
def test_results_are_sorted_bounded_and_hold_each_document_once(rankings):
    for fused in (min_max_average(rankings), reciprocal_rank_fusion(rankings)):
        assert {document for document, _ in fused} == {document for ranking in rankings for document, _ in ranking}
        assert len(fused) == len({document for document, _ in fused})
        assert fused == sorted(fused, key=lambda pair: (-pair[1], pair[0]))
    assert all(-1e-9 <= score <= 1 + 1e-9 for _, score in min_max_average(rankings))


@given(RANKINGS, st.permutations(range(3)))
def test_order_of_the_rankings_does_not_matter(rankings, order):
    shuffled = [rankings[i] for i in order if i < len(rankings)]
    assert dict(min_max_average(shuffled)) == pytest.approx(dict(min_max_average(rankings)))
    assert dict(reciprocal_rank_fusion(shuffled)) == pytest.approx(dict(reciprocal_rank_fusion(rankings)))


@given(
    st.lists(st.integers(-1000, 1000), min_size=2, max_size=10, unique=True),
    st.integers(1, 50),
    st.integers(-100, 100),
)
def test_min_max_ignores_the_scale_and_offset_of_scores(scores, scale, offset):
    ranking = [(str(number), float(score)) for number, score in enumerate(scores)]
    moved = [(document, score * scale + offset) for document, score in ranking]
    assert dict(min_max_average([ranking])) == pytest.approx(dict(min_max_average([moved])))


def test_a_document_that_both_find_beats_one_that_only_one_finds_at_the_same_rank():
    rankings = [[("both", 2.0), ("x", 1.0)], [("both", 9.0), ("y", 3.0)]]
    for method in ("minmax", "rrf"):
        assert fuse(rankings, method)[0][0] == "both"


def test_worked_example_of_reciprocal_ranks():
    assert reciprocal_rank_fusion([[("a", 5.0), ("b", 1.0)], [("b", 0.2)]]) == [
        ("b", pytest.approx(1 / 62 + 1 / 61)),
        ("a", pytest.approx(1 / 61)),
    ]


def test_unknown_method_is_named():
    with pytest.raises(UsageError, match="fusion must be one of minmax, rrf, not 'sum'"):
        fuse([], "sum")
