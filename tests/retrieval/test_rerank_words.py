"""Reranking by words: what it prefers, that it reads all hits at once, and that it needs no model."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm2comp_apps import Collection, Document
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.rerank import Passage, WordsReranker, load_reranker, share_of
from llm2comp_apps.retrieval.search import rerank_documents

WORDS = ["cells", "divide", "by", "mitosis", "the", "bread", "rises", "with", "yeast"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS)).map(" ".join), max_size=8)


def passages(*texts):
    return [Passage(str(number), "", text) for number, text in enumerate(texts)]


def test_a_word_that_few_of_the_hits_have_tells_them_apart():
    texts = ["cells divide fast", "cells age slowly", "cells swim fast", "cells glow slowly"]
    scores = WordsReranker(ordered=False).score("how do cells age", passages(*texts))
    assert scores.argmax() == 1
    assert scores[1] > 2 * scores[0], "all four have *cells*, one has *age*"


def test_what_the_first_hit_says_is_asked_for_too():
    texts = ["glucose is burnt in mitochondria", "mitochondria make ATP of glucose", "the weather was fine"]
    scores = WordsReranker().score("how do cells get energy", passages(*texts))
    assert scores[0] > scores[2] == 0
    assert scores[1] > 0, "it has none of the query's words, and two of the first hit's"


def test_words_of_the_first_hit_that_no_other_has_ask_for_nothing():
    texts = ["cells zyzzyva quokka", "cells", "cells"]
    first, second, third = WordsReranker().score("cells", passages(*texts))
    assert second == pytest.approx(third)
    assert first < second, "longer, and nothing but the same word counts"


def test_function_words_of_the_first_hit_say_nothing():
    texts = ["with the and by yeast", "with the and by", "yeast"]
    scores = WordsReranker().score("bread", passages(*texts))
    assert scores[1] == 0 < scores[2]


@given(texts=TEXTS, query=st.sampled_from(["cells divide", "the", "", "yeast bread bread"]), data=st.data())
def test_without_a_first_search_the_order_of_the_passages_does_not_matter(texts, query, data):
    reranker = WordsReranker(ordered=False)
    scores = reranker.score(query, passages(*texts))
    assert scores.shape == (len(texts),)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
    order = data.draw(st.permutations(range(len(texts))))
    again = reranker.score(query, passages(*(texts[number] for number in order)))
    np.testing.assert_allclose(again, scores[order], rtol=1e-5)


@pytest.fixture
def library(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "x.index", encoder=hash_encoder) as library:
        library.update(
            Document(f"{kind}-{number}", f"{kind} number {number} {extra}", title=kind)
            for kind in ("cells", "bread")
            for number, extra in enumerate(["divide", "rise", "divide and rise", "age", "", "grow"])
        )
        yield library


def test_half_of_the_score_is_that_of_the_first_search(library):
    assert share_of(WordsReranker()) == 0.5
    first = {hit.id: hit.score for hit in library.search("cells divide", k=6)}
    again = library.search("cells divide", k=6, rerank="words", rerank_depth=6)
    assert set(first) == {hit.id for hit in again}
    texts = [Passage(hit.id, hit.title, hit.text) for hit in library.search("cells divide", k=6)]
    own = dict(zip(first, WordsReranker().score("cells divide", texts).tolist(), strict=True))

    def scaled(scores, name):
        low, high = min(scores.values()), max(scores.values())
        return (scores[name] - low) / (high - low)

    for hit in again:
        assert hit.score == pytest.approx((scaled(first, hit.id) + scaled(own, hit.id)) / 2, abs=1e-5)


@pytest.mark.parametrize("milliseconds", [0.001, 500, 0])
def test_all_hits_are_read_however_short_the_time_is(library, milliseconds):
    hits = library.search("cells divide", k=12, rerank="words", rerank_ms=milliseconds)
    assert len(hits) == 12
    assert [hit.id for hit in hits] == [hit.id for hit in library.search("cells divide", k=12, rerank="words")]


def test_no_encoder_is_loaded_where_words_are_searched(library, tmp_path):
    with Collection.open(tmp_path / "x.index", encoder="no such encoder") as reader:
        hits = reader.search("divide", k=3, mode="lexical", rerank="words")
    assert {hit.id for hit in hits} == {hit.id for hit in library.search("divide", k=3, mode="lexical", rerank="words")}


def test_words_are_compared_in_the_language_of_the_index(tmp_path, hash_encoder):
    def best(language):
        with Collection.create(tmp_path / language, encoder=hash_encoder, language=language) as library:
            library.update([Document("a", "Haus und Hof"), Document("b", "viele Häuser"), Document("c", "ein Baum")])
            return library.searcher("lexical", "words")._reranker.score("Häusern", passages("Haus", "Häuser", "Baum"))

    assert (best("german") > 0).tolist() == [True, True, False]
    assert (best("none") > 0).tolist() == [False, False, False]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_chunks_and_passages_are_read_too(tmp_path, hash_encoder, mode):
    with Collection.create(tmp_path / "x.index", encoder=hash_encoder, chunk=16, overlap=0) as library:
        filler = "nothing of note happens here at all today. " * 12
        library.update([Document("long", filler + "Cells divide by mitosis."), Document("other", filler)])
        assert library.search("mitosis", k=2, mode=mode, rerank="words")[0].id == "long"
        found = library.searcher(mode, "words").page("mitosis", mode=mode, passages=True, k=1)
        assert "mitosis" in found.hits[0].text


def test_documents_of_no_index_are_put_in_order():
    documents = [Document("a", "bread rises"), Document("b", "cells divide"), Document("c", "")]
    hits = rerank_documents("how do cells divide", documents, load_reranker("words"))
    assert hits[0].id == "b"
    with pytest.raises(UsageError, match=r"reads texts by itself"):
        load_reranker("words", encoder="default")


def test_of_a_book_the_beginning_is_read():
    book = "cells " * 2_000_000 + "quokka"
    started = time.process_time()
    scores = WordsReranker().score("quokka", passages(book, "a quokka", "nothing"))
    assert time.process_time() - started < 2
    assert scores[1] > scores[0] == 0
