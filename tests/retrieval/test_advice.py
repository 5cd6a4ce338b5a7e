"""What is worth a word before a search, and what is not."""

from __future__ import annotations

import pytest

from llm2comp_apps import Collection, Document
from llm2comp_apps.retrieval.advice import search_notes, search_warnings
from llm2comp_apps.retrieval.search import SearchOptions


@pytest.fixture(params=[True, False])
def index(request, tmp_path, hash_encoder):
    with Collection.create(tmp_path / "a.index", encoder=hash_encoder, memory=request.param) as made:
        made.update([Document(str(n), f"Cells divide {n}.", metadata={"year": n}) for n in range(12)])
        yield made.index


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"k": 12}, None),
        ({"k": 13}, "all of them"),
        ({"k": 13, "mode": "lexical"}, "all that match"),
        ({"k": 13, "where": "year > 3"}, "all that match"),
    ],
)
def test_more_hits_than_documents(index, settings, told):
    lines = search_notes(index, SearchOptions(**settings))
    assert lines == ([] if told is None else [f"12 documents in the index; `k` 13 gives {told}"])


def test_fields_that_no_document_has(index):
    assert search_warnings(index, SearchOptions(where="year > 3")) == []
    (line,) = search_warnings(index, SearchOptions(where="yaer > 3"))
    assert line.startswith("`where`: no document has a field 'yaer', did you mean 'year'?")


def test_memory_vectors_that_are_not_stored(index):
    assert search_warnings(index, SearchOptions()) == []
    stored = bool(index.memory_tokens)
    assert [("stores no memory vectors" in line) for line in search_warnings(index, SearchOptions(), "memory")] == (
        [] if stored else [True]
    )
