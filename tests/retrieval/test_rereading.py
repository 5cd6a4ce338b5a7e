"""What a reranker is given to read: the piece that was found, or the one that holds the query's words."""

from __future__ import annotations

import numpy as np
import pytest

from llm2comp_apps import Collection, Document, UsageError
from llm2comp_apps.retrieval.models import Models
from llm2comp_apps.retrieval.options import SearchOptions
from llm2comp_apps.retrieval.rereading import likeliest_span
from llm2comp_apps.retrieval.tuning import tune_fusion

_FILLER = " ".join(f"Filler {number} of nothing at all." for number in range(60))
_LONG = f"Bread rises. {_FILLER} A quasar is a galaxy that shines because of what falls into it. {_FILLER}"


class Reading:
    """A reranker that keeps what it was given."""

    def __init__(self) -> None:
        self.read: dict[str, list[str]] = {}

    def score(self, query, passages):
        self.read.setdefault(query, []).extend(passage.text for passage in passages)
        return np.arange(len(passages), 0, -1, dtype=np.float32)


@pytest.fixture
def library(tmp_path, hash_encoder):
    documents = [Document("long", _LONG), Document("short", "Quasars shine.")]
    documents += [Document(f"d{n}", f"Nothing about topic{n}. {_FILLER}") for n in range(30)]
    with Collection.create(tmp_path / "a.index", encoder=hash_encoder, chunk=16) as made:
        made.update(documents)
        yield made


@pytest.mark.parametrize("query", ["quasar galaxies", "why do quasars shine"])
def test_a_document_that_words_found_is_read_where_they_stand(library, query):
    reader = Reading()
    hits = library.search(query, mode="lexical", rerank=reader)
    assert {hit.id for hit in hits[:2]} == {"long", "short"}
    (piece,) = [text for text in reader.read[query] if "falls into it" in text]
    assert "quasar" in piece
    assert len(piece) < 200
    assert all(hit.span is not None for hit in hits if hit.id == "long")


def test_the_chunk_with_most_different_words_is_the_likeliest(library):
    (document,) = library.index.get(["long"])
    start, end = likeliest_span(document, "filler quasar galaxy", "english")
    assert "quasar" in document.text[start:end]
    assert likeliest_span(document, "unheard", "english") == document.spans[0]


def test_a_document_that_meaning_found_is_read_where_it_was_found(library):
    reader = Reading()
    query = "a quasar is a galaxy"
    library.search(query, mode="dense", rerank=reader)
    (hit,) = [hit for hit in library.search(query, mode="dense", k=20) if hit.id == "long"]
    assert _LONG[slice(*hit.span)] in reader.read[query]


def test_weights_are_learned_from_what_a_search_reads(library, monkeypatch):
    reader = Reading()
    monkeypatch.setattr(Models, "reranker", lambda *_: reader)
    queries = [Document(f"q{n}", f"quasar galaxy topic{n}") for n in range(25)]
    tune_fusion(library, queries, lambda run: dict.fromkeys(run, 0.5), [query.id for query in queries], rerank="reader")
    learned_from, reader.read = reader.read, {}
    library.searcher("hybrid", "reader").rank([query.text for query in queries], SearchOptions(k=30, rerank_depth=30))
    for query in queries:
        assert sorted(reader.read[query.text]) == sorted(learned_from[query.text])


def test_no_query_cannot_be_read(library, hash_encoder):
    from llm2comp_apps.errors import UsageError

    vector = hash_encoder.encode(["quasar"])[0]
    searcher = library.searcher("lexical", Reading())
    with pytest.raises(UsageError, match=r"^rerank needs a query that can be read"):
        searcher.page(" ", vector=vector, mode="dense")
    assert searcher.page("quasar", vector=vector, mode="dense").hits


@pytest.mark.parametrize("setting", [{"rerank_ms": 50}, {"rerank_depth": 5}])
def test_a_setting_of_reranking_without_a_reranker_is_refused(tmp_path, hash_encoder, setting):
    with Collection.create(tmp_path / "x.index", encoder=hash_encoder) as library:
        library.update([Document("a", "gas")])
        searcher = library.searcher("lexical")
        for ask in (
            lambda: library.search("gas", **setting),
            lambda: library.search_batch(["gas"], **setting),
            lambda: searcher.page("gas", mode="lexical", **setting),
            lambda: searcher.rank(["gas"], SearchOptions(mode="lexical", **setting)),
        ):
            with pytest.raises(UsageError, match=r"^rerank_\w+ has no effect: nothing is scored again"):
                ask()
