"""An index that version 0.1.0 built before there was a front door opens, answers and grows as it did then.

``golden/collection-1.zip`` has the index, its corpus, and what ``search`` answered: twelve documents in chunks of 16
words with memory vectors, one of them deleted, encoded by the :class:`HashEncoder` of the tests.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from llm2comp_apps import Collection, max_sim, read_corpus
from llm2comp_apps.retrieval.rerank import memory
from llm2comp_apps.retrieval.settings import check_same_settings

KEPT = Path(__file__).parent / "golden" / "collection-1.zip"


@pytest.fixture
def kept(tmp_path, hash_encoder):
    with zipfile.ZipFile(KEPT) as archive:
        archive.extractall(tmp_path)
    with Collection.open(tmp_path / "corpus.index", encoder=hash_encoder) as opened:
        yield opened


def answers():
    with zipfile.ZipFile(KEPT) as archive:
        return json.loads(archive.read("answers.json"))


@pytest.mark.filterwarnings("ignore::llm2comp_indexes.errors.OutdatedWarning")  # words are indexed in another way now
@pytest.mark.parametrize("answer", answers(), ids=lambda answer: f"{answer['query']} {answer['settings']}")
def test_it_answers_as_it_did(kept, answer, monkeypatch):
    assert answer["hits"]
    monkeypatch.setattr(memory, "memory_scores", lambda asked, stored, _: max_sim(asked, stored))  # as it compared then
    settings = answer["settings"]
    if settings.get("mode", "hybrid") == "hybrid":  # as hybrid search weighed both sides then
        settings = {"fusion": "minmax", **settings}
    found = [hit.to_dict() for hit in kept.search(answer["query"], k=5, **settings)]
    assert [[hit["id"], hit["span"], hit["snippet"]] for hit in found] == [
        [id_, span, snippet] for id_, _, span, snippet in answer["hits"]
    ]
    assert [hit["score"] for hit in found] == pytest.approx([hit[1] for hit in answer["hits"]], abs=2e-5)


def test_its_settings_mean_what_they_did_and_nothing_is_encoded_again(kept, hash_encoder):
    assert (len(kept), kept.plan.chunk, kept.plan.overlap, kept.plan.memory) == (11, 16, 4, True)
    check_same_settings(kept.index, {"chunk": 16, "overlap": 4, "memory": True})
    report = kept.update(read_corpus([kept.path.with_name("corpus.jsonl")]))
    assert (report.unchanged, report.added) == (11, 1)
    assert len(kept) == 12
    assert kept.verify() == []
    assert kept.search("yeast", mode="lexical", k=1)[0].title == "Bread"  # without a warning: all words are new
