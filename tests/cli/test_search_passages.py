"""``llm2comp search --passages``: chunks of documents as hits of their own."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def chunked(cli, encoders, write_corpus):
    """An index of eight documents in chunks."""
    stars = "Stars are born in clouds of gas and of dust. " * 4 + "A star burns hydrogen for most of its long life."
    corpus = write_corpus(8, **{"stars-1": stars})
    assert cli("index", "build", corpus, "--chunk", "16").exit_code == 0
    return corpus.with_suffix(".index")


def test_passages_are_hits_with_their_place_and_text(cli, chunked):
    found = cli("search", "a star burns hydrogen for life", "--passages", "--json", "-k", "30")
    assert found.exit_code == 0, found.stderr
    assert found.stderr == ""  # thirty hits of eight documents are nothing to wonder at
    hits = [hit for hit in json.loads(found.stdout)["hits"] if hit["id"] == "stars-1"]
    assert len(hits) > 1
    start, end = hits[0]["span"]
    assert len(hits[0]["text"]) == end - start
    assert "burns hydrogen" in hits[0]["text"]
    shown = cli("search", "a star burns hydrogen for life", "--passages", "-k", "30").stdout
    assert f"characters {start} to {end}" in shown
    assert "characters" not in cli("search", "a star burns hydrogen", "-k", "1").stdout


def test_passages_need_chunks_and_no_trec(cli, encoders, write_corpus, tmp_path):
    cli("index", "build", write_corpus(8))
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "how do cells divide"}) + "\n")
    refused = cli("search", "cells", "--passages")
    assert refused.exit_code == 2
    assert "--passages needs an index that was made with chunks" in refused.stderr
    refused = cli("search", "--queries", "queries.jsonl", "--passages", "--format", "trec")
    assert "--passages needs --format json" in refused.stderr
