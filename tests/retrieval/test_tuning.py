"""Weights of an index: learned where they win on queries that took no part, and used by searches that ask for them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from llm2comp_indexes import Index, IndexLockedError

from llm2comp_apps import Collection, Document, tune_index
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.fusion import share_of_meaning
from llm2comp_apps.retrieval.learned import LearnedFusion
from llm2comp_apps.retrieval.ltr_tuning import tune_ranking
from llm2comp_apps.retrieval.models import Models
from llm2comp_apps.retrieval.options import SearchOptions
from llm2comp_apps.retrieval.rerank.own import files_sha256_of
from llm2comp_apps.retrieval.tuning import half_of, tune_fusion

COUNT = 60


@pytest.fixture
def library(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "a.index", encoder=hash_encoder, chunk=64) as made:
        made.update(
            [Document(f"d{n:02}", f"gas star number{n} topic{n % 7} word{n % 11} " + "gas " * n) for n in range(40)]
        )
        yield made


@pytest.fixture
def queries():
    return [Document(f"q{n}", f"gas star topic{n % 7} word{n % 11}") for n in range(COUNT)]


def judge_by(wanted):
    """Judges a run by the place of the one document that a query wants."""

    def judge(run):
        return {
            query: 1 / (1 + sorted(scores, key=lambda id_: -scores[id_]).index(wanted[query]))
            if wanted[query] in scores
            else 0.0
            for query, scores in run.items()
        }

    return judge


def first_by(library, queries, mode):
    """For each query the first document of a mode: what a user wants who trusts that side alone."""
    rankings = library.searcher("hybrid").rank([query.text for query in queries], SearchOptions(k=1, mode=mode))
    return {query.id: ranking[0].id for query, ranking in zip(queries, rankings, strict=True)}


@pytest.mark.parametrize("mode", ["dense", "lexical"])
def test_the_side_that_is_right_gets_the_weight(library, queries, mode):
    wanted = first_by(library, queries, mode)
    report = tune_fusion(library, queries, judge_by(wanted), wanted)
    assert report.queries == COUNT
    assert report.held_out == sum(half_of(query.id) for query in queries)
    assert report.kept
    assert report.learned > report.default
    assert (report.weights.shift > 0) is (mode == "dense")
    assert LearnedFusion.of(library.index.settings) == report.weights
    with Index.open(library.path) as again:
        assert LearnedFusion.of(again.settings) == report.weights
        assert again.settings["chunk"] == 64, "all other settings stay"
    found = library.searcher("hybrid").rank([q.text for q in queries], SearchOptions(k=20, fusion="learned"))
    measure = judge_by(wanted)({
        query.id: {each.id: each.score for each in ranking} for query, ranking in zip(queries, found, strict=True)
    })  # fmt: skip
    held = [measure[query.id] for query in queries if half_of(query.id)]
    assert np.mean(held) == pytest.approx(report.learned, abs=0.02), "a search does what was measured"
    assert "kept: a search takes them" in report.lines()[-1]


def test_weights_without_a_gain_are_not_kept(library, queries):
    wanted = first_by(library, queries, "hybrid")
    report = tune_fusion(library, queries, judge_by(wanted), wanted)
    assert not report.kept
    assert LearnedFusion.of(library.index.settings) is None
    assert report.lines()[-1].startswith("not kept: no gain beyond chance")
    for mode in ("hybrid", "lexical", "dense"):
        with pytest.raises(
            UsageError, match=r"fusion needs weights, and .*a\.index has none: `index tune` learns them"
        ):
            library.search("gas", fusion="learned", mode=mode)


class Wise:
    """Knows by name which document each query wants."""

    files_sha256 = "wise files"

    def __init__(self, wanted):
        self.wanted = wanted

    def score(self, query, passages):
        return np.array([float(passage.id == self.wanted[query]) for passage in passages], np.float32)


def test_a_reranker_gets_a_weight_of_its_own(library, queries, monkeypatch):
    rankings = library.searcher("hybrid").rank([query.text for query in queries], SearchOptions(k=20))
    wanted = {query.id: ranking[0 if n % 2 else 9].id for n, (query, ranking) in enumerate(zip(queries, rankings, strict=True))}  # fmt: skip  # noqa: E501
    wise = {query.text: wanted[query.id] for query in queries}
    monkeypatch.setattr(Models, "reranker", lambda self, name: Wise(wise))
    report = tune_fusion(library, queries, judge_by(wanted), wanted, rerank="wise")
    assert report.weights.reranker == "wise"
    assert report.weights.reranker_files == "wise files"
    assert report.weights.of_reranker > 0
    with library.index.writer() as writer:
        writer.keep(learned={"reranker": "wise", "reranker_files": "wise files", "of_reranker": 0.0})
    plain = [hit.id for hit in library.search("gas star topic1", k=5)]
    monkeypatch.setattr(Wise, "score", lambda self, query, passages: np.arange(len(passages), dtype=np.float32))
    assert [
        hit.id for hit in library.search("gas star topic1", k=5, rerank="wise", rerank_depth=5, fusion="learned")
    ] == plain
    other = library.search("gas star topic1", k=5, rerank="other", rerank_depth=5, fusion="learned")
    assert [hit.id for hit in other] == plain[::-1], "weights of another reranker are none of this one"
    monkeypatch.setattr(Wise, "files_sha256", "files of another one in its place")
    other = library.search("gas star topic1", k=5, rerank="wise", rerank_depth=5, fusion="learned")
    assert [hit.id for hit in other] == plain[::-1]


def test_too_few_queries_say_nothing(library, queries):
    with pytest.raises(UsageError, match="queries has 19 with a known answer; at least 20 are needed"):
        tune_fusion(library, queries[:19], judge_by({}), [query.id for query in queries])


def test_the_share_is_stretched_and_shifted():
    assert LearnedFusion().share(0.3) == pytest.approx(0.3)
    assert LearnedFusion(stretch=0).share(0.9) == pytest.approx(0.5)
    assert LearnedFusion(shift=1).share(0.3) > 0.3
    assert [LearnedFusion(shift=9).share(alpha) for alpha in (0.0, 1.0)] == [0.0, 1.0], (
        "what found nothing has no weight"
    )


def test_both_scores_are_scaled_before_they_are_joined():
    assert LearnedFusion(of_reranker=0.5).joined([3, 1, 2], [-10, 10, 0]) == [0.5, 0.5, 0.5]
    assert LearnedFusion(of_reranker=0.0).joined([3, 1], [0, 9]) == [1.0, 0.0]
    assert LearnedFusion(of_reranker=1.0).joined([2, 2], [5, 5]) == [1.0, 1.0]


def test_a_weight_beside_learned_ones_is_refused():
    with pytest.raises(UsageError, match="alpha says what `fusion=learned` has learned"):
        SearchOptions(fusion="learned", alpha=0.5)


def test_passages_take_the_weights(library):
    with library.index.writer() as writer:
        writer.keep(learned={"stretch": 0.0, "shift": 30.0})
    dense, lexical = ([each.id for each in library.search("gas star topic3", k=9, mode=mode)] for mode in ("dense", "lexical"))  # fmt: skip  # noqa: E501
    hits = library.search("gas star topic3", k=9, fusion="learned", passages=True)
    assert [hit.id for hit in hits][:3] == dense[:3] != lexical[:3]
    assert share_of_meaning([], [], library.index.query_words("gas")) >= 0


def test_a_weight_is_not_for_another_reranker_that_took_the_place_of_the_one_it_was_learned_for(tmp_path):
    folder = tmp_path / "rerank"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"one")
    weights = LearnedFusion(reranker=str(folder), reranker_files=files_sha256_of(str(folder)), of_reranker=0.4)
    assert weights.is_about(str(folder), files_sha256_of(str(folder)))
    (folder / "model.safetensors").write_bytes(b"another")
    assert not weights.is_about(str(folder), files_sha256_of(str(folder)))
    kept = {"learned": {"reranker": str(folder), "of_reranker": 0.4}}
    assert LearnedFusion.of(kept).is_about(str(folder)), "indexes of old know its name alone"


def test_a_folder_is_known_in_any_spelling(tmp_path, monkeypatch):
    (tmp_path / "runs" / "rerank").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    weights = LearnedFusion(reranker="runs/rerank", of_reranker=0.4)
    for name in ("runs/rerank", "runs/rerank/", "./runs/rerank", str(tmp_path / "runs" / "rerank")):
        assert weights.is_about(name)
    assert not any(weights.is_about(name) for name in ("runs", "runs/none", "tokens", None))
    assert not LearnedFusion().is_about(None)
    assert LearnedFusion(reranker="tokens").is_about("tokens")


@pytest.mark.parametrize("tune", [tune_fusion, tune_ranking])
def test_an_index_that_cannot_be_written_to_is_named_before_the_search(library, queries, tune):
    searched = []
    answers = {query.id: {"d01"} for query in queries}
    with (
        Index.open(library.path) as other,
        other.writer(),
        pytest.raises(IndexLockedError, match=r"is writing to this index; try again"),
    ):
        tune(library, queries, judge_by(dict.fromkeys(answers, "d01")), answers, on_progress=searched.append)
    assert searched == []


@pytest.mark.parametrize("rerank", [None, "ltr"])
def test_an_index_learns_from_files_as_from_what_they_hold(library, queries, tmp_path, rerank):
    wanted = first_by(library, queries, "lexical")
    qrels = {query: {id_: 1, "gone": 1, "d39": 0} for query, id_ in wanted.items()}
    asked, warned = [], []
    report = tune_index(
        library, iter(queries), qrels, rerank=rerank, on_progress=asked.append, on_warning=warned.append
    )
    assert report.queries == asked[-1] == COUNT
    assert warned == [f"`qrels` names documents that {library.path} lacks (1, such as 'gone'); they count as not found"]
    assert report.learned > (report.default if rerank is None else report.first)
    if report.kept:
        with library.index.writer() as writer:
            writer.keep(**{"ltr" if rerank else "fusion": None})
    lines = (json.dumps({"_id": query.id, "text": query.text}) + "\n" for query in queries)
    (tmp_path / "queries.jsonl").write_text("".join(lines))
    rows = (f"{query} 0 {id_} {grade}\n" for query, grades in qrels.items() for id_, grade in grades.items())
    (tmp_path / "qrels.txt").write_text("".join(rows))
    again = tune_index(library, tmp_path / "queries.jsonl", str(tmp_path / "qrels.txt"), rerank=rerank)
    assert again.record() == report.record()
    with pytest.raises(UsageError, match=r"qrels names no document of .*, but 'gone' and others"):
        tune_index(library, queries, {query: {"gone": 1} for query in qrels}, rerank=rerank)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"library": "a.index"}, "library must be an open Collection, not 'a.index'"),
        ({"queries": ["gas"]}, "queries must each be a Document(id, text), not 'gas'"),
        ({"queries": [Document("q1", "gas"), Document("q1", "star")]}, "queries names 'q1' twice"),
        ({"queries": [Document("q1", " ")]}, "queries has no text for 'q1'"),
        ({"qrels": {"q1": ["d01"]}}, "qrels must give a mapping from ids of documents to grades"),
        ({"qrels": [("q1", "d01")]}, "qrels must give a mapping from ids of documents to grades"),
        ({"qrels": {"q1": {"d01": "1"}}}, "qrels grades 'd01' for 'q1' by '1', which is no whole number"),
        ({"qrels": {"q1": {"d01": 0.5}}}, "qrels grades 'd01' for 'q1' by 0.5, which is no whole number"),
    ],
)
def test_what_is_given_in_python_is_read_as_strictly_as_files(library, queries, changed, told):
    given = {"library": library, "queries": queries, "qrels": {query.id: {"d01": 1} for query in queries}}
    with pytest.raises(UsageError, match=rf"^{re.escape(told)}"):
        tune_index(**given | changed)
