"""Passages as hits: against every chunk of every document, scored by itself."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from llm2comp_apps.corpus import Document
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.collection import Collection
from llm2comp_apps.retrieval.options import SearchOptions
from llm2comp_apps.retrieval.runs import check_run, write_run

WORDS = ["cell", "star", "bread", "ship", "water", "gas", "yeast", "cloud", "dough", "mitosis"]


@pytest.fixture
def library(tmp_path, hash_encoder):
    generator = np.random.default_rng(3)
    with Collection.create(tmp_path / "x.index", encoder=hash_encoder, chunk=16) as made:
        made.update(
            Document(f"d{n:02}", " ".join(generator.choice(WORDS, 40)), title=f"Title {n}", metadata={"n": n})
            for n in range(70)
        )
    with Collection.open(tmp_path / "x.index", encoder=hash_encoder) as opened:
        yield opened


def chunks(library):
    """Every passage with its vector."""
    documents = library.index.get(list(library.index.ids()))
    vectors = library.index.vectors([document.id for document in documents])
    places = [(document, span) for document in documents for span in document.spans or (None,)]
    return list(zip(places, vectors, strict=True))


@pytest.mark.parametrize("k", [1, 10, 60])
def test_dense_passages_are_the_nearest_chunks_of_all_documents(library, k):
    query = library.encode_query("gas star")
    every = chunks(library)
    assert len(every) > 140
    scores = sorted((float(vector @ query) for _, vector in every), reverse=True)
    hits = library.search("gas star", k=k, mode="dense", passages=True)
    assert [hit.score for hit in hits] == pytest.approx(scores[:k], abs=1e-6)
    assert len({(hit.id, hit.span) for hit in hits}) == k
    for hit in hits:
        (document,) = library.index.get([hit.id])
        assert hit.text == document.text[slice(*hit.span)]
        assert hit.span in document.spans


def test_several_passages_of_one_document_may_be_hits(library):
    hits = library.search("gas star", k=60, mode="dense", passages=True)
    assert len({hit.id for hit in hits}) < 60


def test_lexical_passages_hold_words_of_the_query_and_load_no_encoder(library):
    hits = library.search("yeast mitosis", k=200, mode="lexical", passages=True)
    assert hits
    assert all("yeast" in hit.text or "mitosis" in hit.text for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    documents = {hit.id: hit.score for hit in library.search("yeast mitosis", k=200, mode="lexical")}
    # A passage with all that its document holds of the query has the document's score, and no other has more.
    assert all(hit.score <= documents[hit.id] + 1e-5 for hit in hits)
    whole = [hit for hit in hits if "yeast" in hit.text and "mitosis" in hit.text]
    assert whole
    assert all(hit.score == pytest.approx(documents[hit.id]) for hit in whole)


@pytest.mark.parametrize("fusion", ["weighted", "minmax", "rrf"])
def test_hybrid_passages_have_their_own_parts(library, fusion):
    hits = library.search("yeast mitosis", k=20, fusion=fusion, passages=True)
    assert len({(hit.id, hit.span) for hit in hits}) == 20
    cosines = {(document.id, span): float(vector @ library.encode_query("yeast mitosis"))
               for (document, span), vector in chunks(library)}  # fmt: skip
    for hit in hits:
        assert hit.parts.cosine == pytest.approx(cosines[hit.id, hit.span], abs=1e-6)
        assert (hit.parts.bm25 is None) == ("yeast" not in hit.text and "mitosis" not in hit.text)
    assert "yeast" in hits[0].text
    assert "mitosis" in hits[0].text


def test_alpha_leads_from_words_to_meaning(library):
    def places(**settings):
        return [(hit.id, hit.span) for hit in library.search("gas star", k=10, passages=True, **settings)]

    assert places(alpha=1.0) == places(mode="dense")
    assert places(alpha=0.0) != places(alpha=1.0)


def test_conditions_hold_and_pages_follow_one_another(library):
    hits = library.search("gas star", k=50, where="n < 10", passages=True)
    assert {hit.metadata["n"] for hit in hits} <= set(range(10))
    searcher = library.searcher()
    page = searcher.page("gas star", k=5, offset=5, passages=True, facets=["n"])
    first = searcher.search("gas star", SearchOptions(k=10, passages=True))
    assert [(hit.rank, hit.id, hit.span) for hit in page.hits] == [(hit.rank, hit.id, hit.span) for hit in first[5:]]
    assert len(set(page.ids)) == len(page.ids)
    alone = searcher.page("gas star", k=5, offset=5, passages=True)
    assert (page.depth, alone.depth) == (200, 10), "to take documents apart for a count costs more than the page"
    assert alone.hits == page.hits


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_the_first_passages_are_the_same_however_many_are_wanted(tmp_path, hash_encoder, mode):
    generator = np.random.default_rng(4)
    with Collection.create(tmp_path / "y.index", encoder=hash_encoder, chunk=16) as made:
        made.update(Document(f"d{n:03}", " ".join(generator.choice(WORDS, 40))) for n in range(230))
        every = [(hit.id, hit.span) for hit in made.search("gas star", k=700, mode=mode, passages=True)]
        assert len(every) > 400
        for k in (1, 10, 49, 51, 120, 201, 400):
            found = made.search("gas star", k=k, mode=mode, passages=True)
            assert [(hit.id, hit.span) for hit in found] == every[:k]
            assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


def test_a_reranker_orders_passages(library):
    class ByLength:
        def score(self, query, passages):
            return np.array([passage.span[0] for passage in passages], dtype=float)

    hits = library.search("gas star", k=8, rerank=ByLength(), rerank_depth=30, passages=True)
    assert [hit.score for hit in hits] == [hit.span[0] for hit in hits]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_an_index_without_chunks_has_none(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "whole.index", encoder=hash_encoder) as whole:
        whole.update([Document("a", "a text")])
        with pytest.raises(UsageError, match="passages needs an index that was made with chunks"):
            whole.search("text", passages=True)


def test_a_run_of_passages_says_where_each_is(library):
    file = io.StringIO()
    options = SearchOptions(k=3, passages=True)
    write_run(file, library.searcher(), options, [Document("q", "gas star")], format="json")
    hits = json.loads(file.getvalue())["hits"]
    assert [tuple(hit["span"]) for hit in hits] == [hit.span for hit in library.search("gas star", k=3, passages=True)]
    with pytest.raises(UsageError, match="a TREC run has each document once"):
        check_run("trec", None, passages=True)


def test_operators_choose_documents_and_beginnings_count_as_words(library):
    hits = library.search("mitos*", k=200, mode="lexical", passages=True)
    assert hits
    assert all("mitosis" in hit.text for hit in hits)
    without = library.search("yeast -mitosis", k=200, mode="lexical", passages=True)
    assert without
    assert not any("mitosis" in document.text for document in library.index.get([hit.id for hit in without]))


@pytest.mark.parametrize("typed", ["nai*", "Naï*", "rolog*", "title:neurol*"])
def test_a_beginning_finds_the_passages_of_words_however_they_are_written(tmp_path, hash_encoder, typed):
    text = f"A na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve start. {'More words. ' * 20} Ro\N{SOFT HYPHEN}logy ends it."
    with Collection.create(tmp_path / "y.index", encoder=hash_encoder, chunk=16) as made:
        made.update([Document("a", text, title="Neuro\N{SOFT HYPHEN}logy"), Document("b", "Another text.")])
        (whole,) = made.search(typed, mode="lexical")
        passages = made.search(typed, mode="lexical", passages=True)
        assert {hit.id for hit in passages} == {"a"}
        if "title" not in typed:
            assert whole.snippet.marks
            assert passages[0].snippet.marks
