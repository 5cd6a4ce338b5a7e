"""Searches as rows of an evaluation."""

from __future__ import annotations

import pytest

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.errors import EvaluationError, UsageError
from llm2comp_apps.evaluation import compare, evaluate
from llm2comp_apps.evaluation.datasets import RetrievalData
from llm2comp_apps.evaluation.tasks import Ranker, RetrievalTask
from llm2comp_apps.retrieval.collection import Collection
from llm2comp_apps.retrieval.judged import search_rows

CORPUS = {
    "cells": "Cells divide by mitosis.",
    "stars": "Stars burn hydrogen in their core.",
    "bread": "Yeast makes the dough of bread rise.",
    "ships": "Ships drop anchor in the harbour.",
}
QUERIES = {"q1": "how do cells divide", "q2": "stars and hydrogen", "q3": "  ", "q4": "bread and yeast"}
QRELS = {"q1": {"cells": 1}, "q2": {"stars": 2}, "q3": {"ships": 1}, "q4": {"bread": 1}}


@pytest.fixture
def task():
    return RetrievalTask("library", lambda: RetrievalData(CORPUS, QUERIES, QRELS))


@pytest.fixture
def library(tmp_path, hash_encoder, monkeypatch):
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, **_: hash_encoder)
    with Collection.create(tmp_path / "library.index", encoder="default") as made:
        made.update(Document(name, text) for name, text in CORPUS.items())
    return tmp_path / "library.index"


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_row_ranks_as_a_search_of_that_mode_does(mode, library, hash_encoder):
    ranker = search_rows([mode])[f"{mode} search"].ranker(hash_encoder)
    assert isinstance(ranker, Ranker)
    found = ranker.search(CORPUS, QUERIES, 1000)
    assert set(found) == {"q1", "q2", "q4"}  # an empty query finds nothing
    with Collection.open(library, encoder=hash_encoder) as opened:
        for name, hits in found.items():
            searched = opened.search(QUERIES[name], mode=mode, operators=False)
            assert list(hits.items()) == [(hit.id, pytest.approx(hit.score)) for hit in searched]


def test_a_dense_search_scores_what_exact_cosines_score(task, hash_encoder):
    dense = search_rows(["dense"])["dense search"].ranker(hash_encoder)
    (ranked,), (embedded,) = evaluate(dense, [task]), evaluate(hash_encoder, [task])
    assert ranked.units[:2] == embedded.units[:2]
    assert ranked.main_score == pytest.approx(0.75)  # three of four queries are not empty


def test_a_search_by_words_needs_no_encoder_and_makes_one_row(task, tmp_path):
    outcome = compare([], [task], tmp_path, searches=search_rows(["lexical"]))
    assert list(outcome.to_json()["systems"]) == ["lexical search"]
    assert outcome.report.cells["lexical search"]["library"].main_score == pytest.approx(0.75)


def test_each_encoder_has_its_searches_and_they_share_its_embeddings(task, tmp_path, monkeypatch, make_hash_encoder):
    encoders = {name: make_hash_encoder(seed=name) for name in "ab"}
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, **_: encoders[name])
    rows = search_rows(["hybrid", "lexical", "dense"])
    outcome = compare(["a", "mine=b", "bm25"], [task], tmp_path, searches=rows, against="mine hybrid search")
    assert list(outcome.to_json()["systems"]) == [
        "a", "a dense search", "a hybrid search", "mine", "mine dense search", "mine hybrid search", "bm25",
        "lexical search",
    ]  # fmt: skip
    assert encoders["a"].calls == encoders["b"].calls == 8  # documents and queries, once each
    kept = []
    compare(["a"], [task], tmp_path, searches=rows, on_cell=lambda system, _, was: kept.append((system.label, was)))
    assert kept == [("a", True), ("a dense search", True), ("a hybrid search", True), ("lexical search", True)]


def test_an_index_of_the_corpus_is_searched_as_it_is(task, library, tmp_path):
    rows = search_rows([], index=library)
    assert list(rows) == ["library.index hybrid search"]  # what a search does that names no mode
    assert not rows["library.index hybrid search"].needs_encoder
    outcome = compare([], [task], tmp_path / "out", searches=rows)
    assert outcome.failures == []
    assert outcome.report.cells["library.index hybrid search"]["library"].main_score == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("corpus", "line"),
    [
        ({**CORPUS, "more": "x"}, "lacks 1 of 5 documents, such as more"),
        ({"cells": "x"}, "holds 3 documents that the task has not, such as bread; a sampled suite"),
    ],
)
def test_an_index_of_another_corpus_is_refused(corpus, line, library):
    ranker = search_rows(["lexical"], index=library)["library.index lexical search"].ranker()
    with pytest.raises(EvaluationError, match=line):
        ranker.search(corpus, QUERIES, 10)


def test_a_changed_index_is_searched_again(library, hash_encoder):
    before = search_rows(["lexical"], index=library)["library.index lexical search"].ranker().fingerprint
    assert search_rows(["lexical"], index=library)["library.index lexical search"].ranker().fingerprint == before
    with Collection.open(library, encoder=hash_encoder) as opened:
        opened.delete(["cells"])
    assert search_rows(["lexical"], index=library)["library.index lexical search"].ranker().fingerprint != before


def test_what_makes_no_sense_is_refused(task, tmp_path):
    with pytest.raises(UsageError, match="search must be one of dense, lexical, hybrid, not 'fuzzy'"):
        search_rows(["fuzzy"])
    with pytest.raises(UsageError, match="search needs an encoder for hybrid search"):
        compare(["bm25"], [task], tmp_path, searches=search_rows(["hybrid"]))
    with pytest.raises(UsageError, match="search has no retrieval task here"):
        compare(["a"], [], tmp_path, searches=search_rows(["hybrid"]))
