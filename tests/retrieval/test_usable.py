"""Which rerankers an index can use is said, and what is only tried is said to be so."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict

import pytest

from llm2comp_apps import Collection, Document
from llm2comp_apps.encoder.settings import RERANK, EncoderSettings
from llm2comp_apps.retrieval.advice import rerank_notes
from llm2comp_apps.retrieval.rerank.ltr import Network
from llm2comp_apps.retrieval.rerank.usable import usable_lines, usable_rerankers

ALWAYS = [
    "ltr (all that a hybrid search knows of its best hits)",
    "words (the words that tell the best hits apart)",
]
"""What every index can do."""


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("llm2comp_apps.retrieval.rerank.usable.find_spec", lambda name: None)


def checkpoint(folder, **settings):
    folder.mkdir(parents=True)
    described = EncoderSettings(backbone="b", backbone_sha256="0", k=2, **settings).in_its_format()
    (folder / "encoder.json").write_text(json.dumps(asdict(described)))
    return folder


def made(path, encoder, **settings):
    with Collection.create(path, encoder=encoder, **settings) as library:
        library.update([Document("a", "gas")])
    return Collection.open(path).index


def names(index):
    return [each.name for each in usable_rerankers(index)]


def test_folders_of_rerankers_are_found_and_encoders_are_not(tmp_path, hash_encoder):
    index = made(tmp_path / "deep" / "a.index", hash_encoder)
    assert usable_lines(usable_rerankers(index)) == ALWAYS
    assert rerank_notes(index) == []
    checkpoint(tmp_path / "runs" / "rr" / "encoder", task=RERANK)
    checkpoint(tmp_path / "runs" / "kl" / "encoder")
    checkpoint(tmp_path / "deep" / "small", task=RERANK)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "encoder.json").write_text("{")
    assert names(index) == ["deep/small", "runs/rr/encoder", "ltr", "words"]
    lines = ["deep/small (a reranker of your own)", "runs/rr/encoder (a reranker of your own)"]
    assert usable_lines(usable_rerankers(index)) == [*lines, *ALWAYS]
    assert rerank_notes(index) == [f"`rerank` can be {lines[0]} or {lines[1]} or {ALWAYS[0]} or {ALWAYS[1]}"]
    assert rerank_notes(index, "deep/small") == []


def test_an_index_that_has_learned_to_rank_says_so(tmp_path, hash_encoder):
    index = made(tmp_path / "a.index", hash_encoder)
    for network, learned in ((Network.read().record(), True), ({**Network.read().record(), "features": ["x"]}, False)):
        with index.writer() as writer:
            writer.keep(ltr={"share": 0.7, **network})
        (line,) = [line for line in usable_lines(usable_rerankers(index)) if line.startswith("ltr")]
        assert ("as this index has learned it" in line) is learned


def test_stored_memory_is_named_and_experimental(tmp_path, hash_encoder):
    index = made(tmp_path / "a.index", hash_encoder, memory=True)
    assert usable_lines(usable_rerankers(index)) == ["memory (its vectors are stored; experimental)", *ALWAYS]
    assert rerank_notes(index) == [], "nothing that is sure to help"


def test_a_cross_encoder_needs_its_extra(tmp_path, hash_encoder, monkeypatch):
    index = made(tmp_path / "a.index", hash_encoder)
    monkeypatch.setattr("llm2comp_apps.retrieval.rerank.usable.find_spec", lambda name: object())
    assert usable_lines(usable_rerankers(index)) == ["any cross-encoder of sentence-transformers", *ALWAYS]
    assert rerank_notes(index) == [], "no model is at hand"


@pytest.mark.parametrize(
    ("own", "readable"),
    [
        (False, ["memory", "ltr", "words", "tokens", "likelihood", "upr"]),
        (True, ["memory", "ltr", "words", "tokens", "upr"]),
    ],
)
def test_what_the_encoder_can_do_is_read_from_its_settings(tmp_path, hash_encoder, monkeypatch, own, readable):
    index = made(tmp_path / "a.index", hash_encoder)
    folder = checkpoint(tmp_path / "far" / "away" / "encoder", own_layers=own)
    monkeypatch.setattr(type(index), "encoder", property(lambda self: {"source": str(folder), "name": "x"}))
    assert names(index) == readable
    assert rerank_notes(index) == [], "what every index can do is said by `index info`, and not at every search"
