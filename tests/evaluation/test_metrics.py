"""The measures against pytrec_eval, scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics.pairwise import (
    paired_cosine_distances,
    paired_euclidean_distances,
    paired_manhattan_distances,
)

from llm2comp_apps.evaluation.datasets import RetrievalData
from llm2comp_apps.evaluation.metrics import ndcg, paired_similarities, spearman
from llm2comp_apps.evaluation.tasks.retrieval import score_run

documents = st.integers(0, 30).map(lambda number: f"d{number}")
# Few distinct scores, so that ties are the rule; grades below 1 are judged but not relevant.
runs = st.dictionaries(documents, st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1)
judgements = st.dictionaries(documents, st.integers(-1, 3), min_size=1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(runs, judgements), min_size=1, max_size=4))
def test_ranking_measures_are_trec_evals_ties_and_grades_included(queries):
    run = {f"q{index}": ranking for index, (ranking, _) in enumerate(queries)}
    qrels = {f"q{index}": judged for index, (_, judged) in enumerate(queries)}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100", "map"}).evaluate(run)
    ours = score_run(run, RetrievalData({}, dict.fromkeys(run, ""), qrels))
    for name, measure in (("ndcg@10", "ndcg_cut_10"), ("recall@100", "recall_100"), ("map", "map")):
        assert ours.scores[name] == pytest.approx(np.mean([row[measure] for row in theirs.values()]), abs=1e-6)
    assert ours.units == pytest.approx([theirs[query]["ndcg_cut_10"] for query in run], abs=1e-6)


def test_reciprocal_rank_is_trec_evals_over_the_first_ten():
    run = {f"q{place}": {f"d{index:02}": 1.0 - index / 100 for index in range(20)} for place in (0, 3, 9, 15)}
    qrels = {query: {f"d{int(query[1:]):02}": 1} for query in run}
    ours = score_run(run, RetrievalData({}, dict.fromkeys(run, ""), qrels))
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(run)
    expected = [row["recip_rank"] if int(query[1:]) < 10 else 0.0 for query, row in theirs.items()]
    assert ours.scores["mrr@10"] == pytest.approx(np.mean(expected))


def test_a_query_without_results_scores_zero_and_still_counts():
    data = RetrievalData({}, {"found": "", "lost": ""}, {"found": {"d": 1}, "lost": {"d": 1}})
    scores = score_run({"found": {"d": 1.0}}, data)
    assert scores.scores["ndcg@10"] == 0.5
    assert scores.units == [1.0, 0.0]


def test_ndcg_of_a_known_ranking():
    # Järvelin and Kekäläinen's example, linear gains: DCG@6 = 3 + 2/1.585 + 3/2 + 0 + 1/2.585 + 2/2.807.
    gains = np.array([3, 2, 3, 0, 1, 2], dtype=float)
    assert ndcg(gains, gains, 6) == pytest.approx(6.8611 / 7.1410, abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-1, 1)), min_size=3, max_size=40))
def test_spearman_is_scipys(rows):
    gold, scores = np.array(rows).T
    if np.ptp(gold) == 0 or np.ptp(scores) == 0:
        return
    assert spearman(scores, gold) == pytest.approx(spearmanr(gold, scores).statistic)


def test_pair_similarities_are_scikit_learns_distances():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 50, 8)).astype(np.float32)
    ours = paired_similarities(a, b)
    assert ours["cosine"] == pytest.approx(1 - paired_cosine_distances(a, b), abs=1e-5)
    assert ours["euclidean"] == pytest.approx(-paired_euclidean_distances(a, b), rel=1e-5)
    assert ours["manhattan"] == pytest.approx(-paired_manhattan_distances(a, b), rel=1e-5)
    assert ours["dot"] == pytest.approx((a * b).sum(axis=1), abs=1e-5)


def test_a_zero_vector_is_like_nothing():
    assert paired_similarities(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32))["cosine"] == [0.0]


def test_a_query_is_not_its_own_hit():
    run = {"t1": {"t1": 9.0, "t2": 2.0, "t3": 1.0}}
    qrels = {"t1": {"t2": 1}}
    assert score_run(run, RetrievalData({}, {"t1": ""}, qrels)).scores["mrr@10"] == 0.5
    scores = score_run(run, RetrievalData({}, {"t1": ""}, qrels, frozenset({"t1"}))).scores
    assert scores["ndcg@10"] == scores["mrr@10"] == scores["map"] == 1.0


def test_the_lists_of_sets_that_ignore_identical_ids_are_mtebs():
    mteb = pytest.importorskip("mteb")
    from llm2comp_apps.evaluation.discovery import _IGNORING_IDENTICAL_IDS

    for name in ("ArguAna", "QuoraRetrieval", "FiQA2018", "FEVER", "MSMARCO", "SciFact", "NFCorpus", "ClimateFEVER"):
        task = mteb.get_task(name)
        assert task.ignore_identical_ids == name.lower().startswith(_IGNORING_IDENTICAL_IDS), name
