"""Fusion against slow references written from the formulas, and the properties the formulas promise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm2comp_indexes import QueryWords

from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.fusion import (
    RRF_K,
    fuse,
    min_max_average,
    reciprocal_rank_fusion,
    share_of_meaning,
    weighted_average,
)
from llm2comp_apps.retrieval.options import SearchOptions

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
    for method in ("weighted", "minmax", "rrf"):
        assert fuse(*rankings, QueryWords(10.0, 2), fusion=method)[0][0] == "both"


SIDE = RANKINGS.map(lambda rankings: rankings[0] if rankings else [])
COSINES = SIDE.map(lambda side: [(document, score / 1e6) for document, score in side])
POSITIVE = SIDE.map(lambda side: [(document, abs(score) / 1e5 + 0.1) for document, score in side]).map(
    lambda side: sorted(side, key=lambda pair: (-pair[1], pair[0]))
)


@given(COSINES, POSITIVE, st.one_of(st.none(), st.sampled_from([0.0, 0.3, 0.5, 1.0])))
def test_weighted_scores_keep_the_order_of_the_scaled_sum(dense, lexical, alpha):
    most = 2 * max((score for _, score in lexical), default=0.0)
    words = QueryWords(most, 3)
    fused = dict(weighted_average(dense, lexical, words, alpha))
    assert fused.keys() == dict(dense).keys() | dict(lexical).keys()
    share = share_of_meaning(dense, lexical, words) if alpha is None else alpha
    near, found = dict(dense), dict(lexical)
    low, high = (min(near.values()), max(near.values())) if near else (0, 0)

    def scaled(document):
        meaning = 0.0 if document not in near else 1.0 if low == high else (near[document] - low) / (high - low)
        return share * meaning + (1 - share) * (found.get(document, 0) / max(found.values()) if found else 0)

    for one in fused:
        for other in fused:
            if scaled(one) > scaled(other) + 1e-6:
                assert fused[one] >= fused[other] - 1e-9


def test_weighted_scores_are_means_of_cosine_and_coverage():
    dense, lexical = [("a", 0.8), ("b", 0.2)], [("a", 6.0), ("c", 3.0)]
    fused = dict(weighted_average(dense, lexical, QueryWords(12.0, 3)))
    assert 0.5 < fused["a"] < 0.8  # between coverage and cosine
    assert dict(weighted_average(dense, [], QueryWords(12.0, 3))) == pytest.approx(dict(dense))
    assert dict(weighted_average([], lexical, QueryWords(12.0, 3))) == pytest.approx({"a": 0.5, "c": 0.25})
    assert dict(weighted_average(dense, lexical, QueryWords(12.0, 3), 1.0))["a"] == pytest.approx(0.8)
    assert dict(weighted_average(dense, lexical, QueryWords(12.0, 3), 0.0))["a"] == pytest.approx(0.5)


def test_the_decisive_side_weighs_more():
    near = [(str(n), 0.5 - n / 1000) for n in range(100)]
    clear = [("0", 0.9), *near[1:]]
    tied = [(str(n), 5.0 - n / 1000) for n in range(100)]
    ahead = [("0", 9.0), *tied[1:]]
    words = QueryWords(20.0, 4)
    assert share_of_meaning(clear, tied, words) > share_of_meaning(near, tied, words) + 0.05
    assert share_of_meaning(near, ahead, words) < share_of_meaning(near, tied, words) - 0.05
    assert share_of_meaning(near, tied, QueryWords(60.0, 4)) > share_of_meaning(near, tied, QueryWords(6.0, 4)) + 0.2
    assert share_of_meaning(near, [], words) == 1.0
    assert share_of_meaning([], tied, words) == 0.0
    assert all(1 / 21 <= share_of_meaning(near, tied, QueryWords(most, 1)) <= 20 / 21 for most in (5.1, 1e9))


def test_a_given_weight_replaces_that_of_the_query():
    dense, lexical = [("a", 0.9), ("b", 0.1)], [("b", 9.0), ("a", 1.0)]
    for method in ("weighted", "minmax"):
        assert fuse(dense, lexical, QueryWords(10.0, 2), fusion=method, alpha=0.9)[0][0] == "a"
        assert fuse(dense, lexical, QueryWords(10.0, 2), fusion=method, alpha=0.1)[0][0] == "b"


def test_worked_example_of_reciprocal_ranks():
    assert reciprocal_rank_fusion([[("a", 5.0), ("b", 1.0)], [("b", 0.2)]]) == [
        ("b", pytest.approx(1 / 62 + 1 / 61)),
        ("a", pytest.approx(1 / 61)),
    ]


def test_unknown_method_and_weights_out_of_range_are_named():
    with pytest.raises(UsageError, match="fusion must be one of weighted, minmax, rrf, learned, not 'sum'"):
        fuse([], [], QueryWords(0.0, 0), fusion="sum")
    with pytest.raises(UsageError, match="alpha must be from 0"):
        fuse([], [], QueryWords(0.0, 0), alpha=-0.1)


@pytest.mark.parametrize("mode", ["dense", "lexical"])
@pytest.mark.parametrize("fusion", ["minmax", "rrf"])
def test_a_way_to_join_is_refused_where_nothing_is_joined(mode, fusion):
    with pytest.raises(UsageError, match="fusion has no effect: only a hybrid search joins two rankings"):
        SearchOptions(mode=mode, fusion=fusion)
