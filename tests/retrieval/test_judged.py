"""Searches as rows of an evaluation."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.encoder import load_encoder
from llm2comp_apps.errors import EvaluationError, UsageError
from llm2comp_apps.evaluation import compare, evaluate
from llm2comp_apps.evaluation.datasets import RetrievalData
from llm2comp_apps.evaluation.tasks import Ranker, RetrievalTask
from llm2comp_apps.retrieval import judged
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


class Plain:
    """An encoder without memory vectors."""

    def __init__(self, inner):
        self.name, self.fingerprint, self.dimension = inner.name, inner.fingerprint, inner.dimension
        self.prompts, self.encode, self.encode_stream = inner.prompts, inner.encode, inner.encode_stream


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


def test_titles_count_as_they_do_in_a_search(tmp_path, hash_encoder):
    """A row over joined texts and their titles is a search of documents that have these titles."""
    documents = [Document(name, text, name) for name, text in CORPUS.items()] + [Document("anchor", "", "Anchor")]
    corpus, titles = ({each.id: getattr(each, part) for each in documents} for part in ("content", "title"))
    found = search_rows(["hybrid"])["hybrid search"].ranker(hash_encoder).search(corpus, {"q": "stars"}, 10, titles)
    with Collection.create(tmp_path / "titled.index", encoder=hash_encoder) as library:
        library.update(documents)
        expected = {hit.id: pytest.approx(hit.score) for hit in library.search("stars")}
    assert found == {"q": expected}
    plain = search_rows(["hybrid"])["hybrid search"].ranker(hash_encoder).search(corpus, {"q": "stars"}, 10)
    assert plain != found


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


class Backwards:
    """A reranker that likes late letters."""

    def score(self, query, passages):
        return np.asarray([ord(passage.id[0]) for passage in passages], np.float32)


def test_reranking_by_memory_ranks_as_a_search_with_it(tmp_path, hash_encoder):
    (ranker,) = search_rows(["rerank"]).values()
    found = ranker.ranker(hash_encoder).search(CORPUS, QUERIES, 1000)
    with Collection.create(tmp_path / "memory.index", encoder=hash_encoder, memory=True) as library:
        library.update(Document(name, text) for name, text in CORPUS.items())
        for name, hits in found.items():
            searched = library.search(QUERIES[name], rerank="memory", operators=False)
            assert list(hits.items()) == [(hit.id, pytest.approx(hit.score)) for hit in searched]


def test_a_reranker_reads_the_head_and_the_rest_follows_in_its_order(monkeypatch, hash_encoder):
    monkeypatch.setattr(judged, "RERANKED", 2)
    monkeypatch.setattr(judged, "load_joint_reranker", lambda name, device: Backwards())
    rows = search_rows(["hybrid"], rerank=["some/model"])
    assert list(rows) == ["hybrid search", "rerank search (some/model)"]
    hybrid, reranked = (
        {name: list(hits) for name, hits in row.ranker(hash_encoder).search(CORPUS, QUERIES, 1000).items()}
        for row in rows.values()
    )
    for name, ids in hybrid.items():
        assert reranked[name] == [*sorted(ids[:2], reverse=True), *ids[2:]]


@pytest.mark.parametrize("name", ["ltr", "words"])
def test_hits_that_are_compared_are_those_of_a_search(tmp_path, hash_encoder, name):
    corpus = {f"d{number:03}": f"{'gas ' * (number % 7 + 1)}star{number} word{number % 11}" for number in range(150)}
    found = search_rows([], rerank=[name]).popitem()[1].ranker(hash_encoder).search(corpus, {"q": "gas word3"}, 1000)
    with Collection.create(tmp_path / "x.index", encoder=hash_encoder) as library:
        library.update(Document(id_, text) for id_, text in corpus.items())
        searched = library.search("gas word3", k=100, rerank=name, operators=False)
    assert list(found["q"])[:100] == [hit.id for hit in searched]
    assert len(found["q"]) == 150


def test_rows_of_rerankers_are_kept_and_encode_once(task, tmp_path, monkeypatch, make_hash_encoder):
    encoders = {"a": make_hash_encoder()}
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, **_: encoders[name])
    rows = search_rows(["rerank"])
    compare(["a"], [task], tmp_path, searches=rows)
    assert encoders["a"].calls == 15  # 8 texts for the encoder's row, 7 for memory vectors: one query is empty
    shutil.rmtree(tmp_path / "results")
    again = compare(["a"], [task], tmp_path, searches=rows)
    assert encoders["a"].calls == 15  # both kinds of vectors are kept
    assert again.report.cells["a rerank search (memory)"]["library"].main_score == pytest.approx(0.75)


def test_an_encoder_without_memory_is_named_and_stops_nothing(task, tmp_path, monkeypatch, make_hash_encoder):
    plain = Plain(make_hash_encoder())
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, **_: plain)
    outcome = compare(["a"], [task], tmp_path, searches=search_rows(["hybrid", "rerank"]))
    assert set(outcome.report.cells["a hybrid search"]) == {"library"}
    (line,) = outcome.failures
    assert line.startswith("a rerank search (memory), library: the encoder hash has no memory vectors")


def test_likelihoods_load_the_encoder_by_the_name_of_its_row(task, tmp_path, monkeypatch, make_hash_encoder):
    asked = []

    def load(encoder, *, device, **given):
        asked.append((encoder, given.get("stored") is not None))
        return Backwards()

    monkeypatch.setattr("llm2comp_apps.retrieval.models.load_likelihood_reranker", load)
    monkeypatch.setattr("llm2comp_apps.retrieval.models.load_upr_reranker", load)
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, **_: make_hash_encoder())
    compare(["mine=runs/a"], [task], tmp_path, searches=search_rows([], rerank=["likelihood", "upr"]))
    assert asked == [("runs/a", True), ("runs/a", False)], "only one of them reads memory vectors"


def test_tokens_are_read_by_the_encoder_of_the_row(task, tmp_path, monkeypatch, tiny_encoder_dir, make_hash_encoder):
    encoders = {"a": load_encoder(str(tiny_encoder_dir), device="cpu"), "b": make_hash_encoder()}
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, **_: encoders[name])
    outcome = compare(["a", "b"], [task], tmp_path, searches=search_rows([], rerank=["tokens"]))
    assert set(outcome.report.cells["a rerank search (tokens)"]) == {"library"}
    (line,) = outcome.failures
    assert line.startswith("b rerank search (tokens), library: the encoder hash shows no tokens")


def test_an_index_is_reranked(library):
    rows = search_rows([], rerank=["memory"], index=library)
    assert list(rows) == ["library.index rerank search (memory)"]
    found = rows["library.index rerank search (memory)"].ranker().search(CORPUS, QUERIES, 1000)
    assert next(iter(found["q1"])) == "cells"


def test_another_reranker_of_the_same_name_is_another_row(tmp_path, hash_encoder):
    folder = tmp_path / "reranker"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (row,) = search_rows([], rerank=[str(folder)]).values()
    before = row.ranker(hash_encoder).fingerprint
    assert row.ranker(hash_encoder).fingerprint == before
    (folder / "config.json").write_text('{"trained": "longer"}')
    assert row.ranker(hash_encoder).fingerprint != before


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
    with pytest.raises(UsageError, match="search must be one of dense, lexical, hybrid, rerank, not 'fuzzy'"):
        search_rows(["fuzzy"])
    with pytest.raises(UsageError, match="search needs an encoder for hybrid search"):
        compare(["bm25"], [task], tmp_path, searches=search_rows(["hybrid"]))
    with pytest.raises(UsageError, match="search has no retrieval task here"):
        compare(["a"], [], tmp_path, searches=search_rows(["hybrid"]))
