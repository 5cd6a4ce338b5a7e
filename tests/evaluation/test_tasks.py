"""Each task on embeddings whose score is known, or that an outside library scores too."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import chain

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, v_measure_score

from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation import evaluate, load_suite
from llm2comp_apps.evaluation.datasets import ClusteringData, LabelledData, PairData, RerankingData, RetrievalData
from llm2comp_apps.evaluation.tasks import (
    ClassificationTask,
    ClusteringTask,
    PairClassificationTask,
    RerankingTask,
    RetrievalTask,
    StsTask,
)
from llm2comp_apps.evaluation.tasks.classification import few_shot_samples


def points_on_circle(degrees):
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_sts_follows_the_order_of_the_angles(embed_with):
    others = points_on_circle([10, 20, 40, 80])
    table = {"origin": points_on_circle([0])[0], **{f"s{index}": row for index, row in enumerate(others)}}
    names = list(table)[1:]
    right = StsTask("t", lambda: PairData(["origin"] * 4, names, [5, 4, 2, 0]))
    wrong = StsTask("t", lambda: PairData(["origin"] * 4, names, [0, 2, 4, 5]))
    assert right.evaluate(embed_with(table)).scores["cosine_spearman"] == pytest.approx(1)
    assert wrong.evaluate(embed_with(table)).scores["cosine_spearman"] == pytest.approx(-1)


def test_tasks_say_before_what_they_will_embed(data, hash_encoder):
    tasks = load_suite("offline", data)
    assert len(tasks) == 6
    for task in tasks:
        asked = []

        def embed(texts, role="query", asked=asked):
            asked.append((role, list(texts)))
            return hash_encoder.encode(texts)

        task.evaluate(embed)
        assert sorted(task.texts()) == sorted(asked)


def test_a_collapsed_encoder_scores_nothing_rather_than_nan(data, collapsed):
    scores = {result.task: result.main_score for result in evaluate(collapsed, load_suite("offline", data))}
    assert np.isfinite(list(scores.values())).all()
    assert scores["likeness"] == 0
    assert scores["groups"] == pytest.approx(0, abs=1e-9)
    assert scores["subject"] <= 0.3  # four equal classes
    assert scores["answers_test"] == 0.25  # the one relevant candidate behind the three others
    assert scores["library"] < 0.6


def test_an_encoder_that_sees_the_words_does_well_on_every_form(data, hash_encoder):
    scores = {result.task: result.main_score for result in evaluate(hash_encoder, load_suite("offline", data))}
    assert set(scores) == {"library", "answers_test", "groups", "paraphrase", "subject", "likeness"}
    assert min(scores.values()) > 0.6


def test_pair_classification_is_the_best_average_precision(embed_with):
    rng = np.random.default_rng(1)
    table = {f"s{index}": row for index, row in enumerate(rng.standard_normal((60, 5)))}
    first, second = [f"s{index}" for index in range(30)], [f"s{index}" for index in range(30, 60)]
    labels = rng.integers(0, 2, 30)
    scores = PairClassificationTask("t", lambda: PairData(first, second, labels)).evaluate(embed_with(table)).scores
    a, b = (np.stack([table[name] for name in names]).astype(np.float32) for names in (first, second))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert scores["cosine_ap"] == pytest.approx(average_precision_score(labels, cosine))
    assert scores["manhattan_ap"] == pytest.approx(average_precision_score(labels, -np.abs(a - b).sum(1)))
    assert scores["max_ap"] == max(value for name, value in scores.items() if name != "max_ap")


def test_pair_classification_needs_both_labels(embed_with):
    for gold in ([1, 1, 1, 1], [0.2, 0.9, 1.0, 0.0]):
        task = PairClassificationTask("one-sided", lambda gold=gold: PairData(["a"] * 4, ["b"] * 4, gold))
        with pytest.raises(EvaluationError, match="one-sided: pair labels must be 0 and 1"):
            task.evaluate(embed_with({"a": [1], "b": [1]}))


def test_reranking_is_trec_evals_map_over_each_querys_own_candidates(embed_with):
    rng = np.random.default_rng(2)
    data = RerankingData(
        queries=[f"q{index}" for index in range(6)],
        positives=[[f"p{index}-{number}" for number in range(1 + index % 3)] for index in range(6)],
        negatives=[[f"n{index}-{number}" for number in range(5)] for index in range(6)],
    )
    names = [*data.queries, *chain(*data.positives, *data.negatives)]
    table = {
        name: row / np.linalg.norm(row) for name, row in zip(names, rng.standard_normal((len(names), 6)), strict=True)
    }
    embed = embed_with(table)
    ours = RerankingTask("t", lambda: data).evaluate(embed)
    run, qrels = {}, {}
    for query, positive, negative in zip(data.queries, data.positives, data.negatives, strict=True):
        run[query] = {name: float(table[name] @ table[query]) for name in [*positive, *negative]}
        qrels[query] = dict.fromkeys(positive, 1)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"map", "recip_rank"}).evaluate(run)
    assert ours.scores["map"] == pytest.approx(np.mean([row["map"] for row in theirs.values()]))
    assert ours.scores["mrr@10"] == pytest.approx(np.mean([row["recip_rank"] for row in theirs.values()]))
    assert embed.roles == ["query", "document"]


def test_retrieval_ranks_the_whole_corpus_by_cosine(embed_with):
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((1300, 6))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    corpus = {f"d{index}": f"text {index}" for index in range(1200)}
    queries = {f"q{index}": f"text {1200 + index}" for index in range(100)}
    table = {f"text {index}": row for index, row in enumerate(rows)}
    qrels = {query: {f"d{number}": 1 for number in rng.integers(0, 1200, 5)} for query in queries}
    embed = embed_with(table)
    ours = RetrievalTask("t", lambda: RetrievalData(corpus, queries, qrels)).evaluate(embed)
    similarity = rows[1200:].astype(np.float32) @ rows[:1200].astype(np.float32).T
    run = {
        f"q{row}": {f"d{column}": float(similarity[row, column]) for column in np.argsort(-similarity[row])[:1000]}
        for row in range(100)
    }
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100", "map"}).evaluate(run)
    for name, measure in (("ndcg@10", "ndcg_cut_10"), ("recall@100", "recall_100"), ("map", "map")):
        assert ours.scores[name] == pytest.approx(np.mean([row[measure] for row in theirs.values()]), abs=1e-6)
    assert embed.roles == ["document", "query"]


def mteb_1_draws(labels, per_label, experiments):
    """MTEB 1's ``_undersample_data`` under ``np.random.seed(42)``, as the published scores were made."""
    generator = np.random.RandomState(42)
    indices = np.arange(len(labels))
    draws = []
    for _ in range(experiments):
        generator.shuffle(indices)
        counter = defaultdict(int)
        draw = []
        for index in indices:
            if counter[labels[index]] < per_label:
                draw.append(index)
                counter[labels[index]] += 1
        draws.append(draw)
    return draws


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.integers(1, 8))
def test_draws_are_mtebs_and_balanced(labels, per_label):
    draws = few_shot_samples(labels, per_label, 4)
    assert draws == mteb_1_draws(labels, per_label, 4)
    for draw in draws:
        taken = Counter(labels[index] for index in draw)
        assert taken == {label: min(per_label, count) for label, count in Counter(labels).items()}
        assert len(set(draw)) == len(draw)


def test_classification_is_logistic_regression_on_each_draw(embed_with):
    rng = np.random.default_rng(4)
    texts = [f"t{index}" for index in range(120)]
    labels = [str(value) for value in rng.integers(0, 3, 120)]
    rows = rng.standard_normal((120, 4)) + np.array([int(label) for label in labels])[:, None] * 0.5
    table = dict(zip(texts, rows, strict=True))
    data = LabelledData(texts[:80], labels[:80], texts[80:], labels[80:])
    ours = ClassificationTask("t", lambda: data, samples_per_label=5, experiments=3).evaluate(embed_with(table))
    accuracies = []
    features = rows.astype(np.float32)
    for draw in mteb_1_draws(labels[:80], 5, 3):
        model = LogisticRegression(max_iter=100, random_state=42)
        model.fit(features[draw], np.array(labels)[draw])
        accuracies.append(model.score(features[80:], labels[80:]))
    assert ours.scores["accuracy"] == pytest.approx(np.mean(accuracies))
    assert ours.scores["accuracy_std"] == pytest.approx(np.std(accuracies))
    assert np.mean(ours.units) == pytest.approx(ours.scores["accuracy"])
    assert len(ours.units) == 40


def test_classification_embeds_only_the_training_texts_it_draws(embed_with):
    texts = [f"t{index}" for index in range(200)]
    labels = [str(index % 2) for index in range(200)]
    seen = []

    def embed(batch, role="query"):
        seen.append(list(batch))
        return np.array([[int(text[1:]) % 2, 1] for text in batch], dtype=np.float32)

    data = LabelledData(texts, labels, ["t1", "t2"], ["1", "0"])
    ours = ClassificationTask("t", lambda: data, samples_per_label=4, experiments=2).evaluate(embed)
    assert ours.scores["accuracy"] == 1
    assert len(seen[0]) <= 16
    assert seen[1] == ["t1", "t2"]


def test_clustering_is_the_mean_v_measure_over_seeds(embed_with):
    rng = np.random.default_rng(5)
    texts = [f"t{index}" for index in range(300)]
    labels = [str(index % 5) for index in range(300)]
    rows = (rng.standard_normal((300, 6)) + np.eye(6)[[index % 5 for index in range(300)]] * 2).astype(np.float32)
    ours = ClusteringTask("t", lambda: ClusteringData(texts, labels), seeds=3).evaluate(
        embed_with(dict(zip(texts, rows, strict=True)))
    )
    expected = [
        v_measure_score(
            labels,
            MiniBatchKMeans(n_clusters=5, batch_size=500, n_init="auto", random_state=seed).fit(rows).labels_,
        )
        for seed in (42, 43, 44)
    ]
    assert ours.scores["v_measure"] == pytest.approx(np.mean(expected))
    assert ours.scores["v_measure_seed42"] == pytest.approx(expected[0])
    assert ours.units == []


def test_an_encoder_that_returns_nonsense_is_named(data, collapsed):
    collapsed.encode = lambda texts, **_: np.full((len(texts), 8), np.nan, np.float32)
    with pytest.raises(EvaluationError, match=r"library: encoder collapsed returned .* not finite"):
        evaluate(collapsed, load_suite("offline", data))


def nothing_is_embedded(texts, role="query"):
    raise AssertionError


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            StsTask("one", lambda: PairData(["a"], ["b"], [5])),
            "one: needs at least two pairs with different scores, found 1",
        ),
        (StsTask("flat", lambda: PairData(["a", "b"], ["c", "d"], [5, 5])), "flat: needs .* found 2 with 1 score"),
        (ClusteringTask("one", lambda: ClusteringData(["a", "b"], ["x", "x"])), "one: needs .* two classes, .* 'x'"),
        (
            ClassificationTask("one", lambda: LabelledData(["a", "b"], ["x", "x"], ["c"], ["y"])),
            "one: needs training texts of at least two labels, found only 'x'",
        ),
    ],
)
def test_a_set_that_cannot_be_scored_is_refused_before_anything_is_embedded(task, message):
    with pytest.raises(EvaluationError, match=message):
        task.evaluate(nothing_is_embedded)


def test_pairs_are_kept_as_they_were_scored(embed_with):
    rng = np.random.default_rng(6)
    names = [f"s{index}" for index in range(40)]
    table = {name: row * scale for name, row, scale in zip(names, rng.normal(size=(40, 4)), range(1, 41), strict=True)}
    labels = [1, 0] * 10
    data = PairData(names[:20], names[20:], labels)
    sts = StsTask("t", lambda: data).evaluate(embed_with(table))
    assert spearmanr(sts.pairs["score"], sts.pairs["gold"]).statistic == pytest.approx(sts.scores["cosine_spearman"])
    pair = PairClassificationTask("t", lambda: data).evaluate(embed_with(table))
    assert average_precision_score(labels, pair.pairs["score"]) == pytest.approx(pair.scores["max_ap"])
