"""Searching: the three modes against plain references, chunks, and what is refused."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import pytest
from llm2comp_indexes import Index

from llm2comp_apps.corpus import Document
from llm2comp_apps.errors import EncoderError, UsageError
from llm2comp_apps.retrieval.build import fill_index
from llm2comp_apps.retrieval.fusion import fuse
from llm2comp_apps.retrieval.options import SearchOptions
from llm2comp_apps.retrieval.plan import EmbeddingPlan
from llm2comp_apps.retrieval.rerank import MemoryReranker
from llm2comp_apps.retrieval.search import Searcher
from llm2comp_apps.retrieval.similar import similar_documents

WORDS = ["cell", "star", "bread", "ship", "water", "gas", "yeast", "cloud", "dough", "mitosis"]


def corpus(count=60):
    generator = np.random.default_rng(1)
    return [
        Document(f"d{n:02}", " ".join(generator.choice(WORDS, 8)), title=f"Title {n}", metadata={"n": n})
        for n in range(count)
    ]


@pytest.fixture
def index(tmp_path, hash_encoder):
    index = Index.create(
        tmp_path / "x.index",
        dimension=hash_encoder.dimension,
        encoder={"name": hash_encoder.name, "fingerprint": hash_encoder.fingerprint},
    )
    fill_index(index, hash_encoder, corpus(), EmbeddingPlan())
    return index


@pytest.fixture
def searcher(index, hash_encoder):
    return Searcher(index, hash_encoder)


def ids(ranking):
    return [ranked.id for ranked in ranking]


def test_dense_is_brute_force_over_the_query_prompt(searcher, hash_encoder):
    documents = corpus()
    found = searcher.rank(["gas star"], SearchOptions(k=5, mode="dense"))[0]
    query = hash_encoder.encode(["gas star"], prompt=hash_encoder.prompts["query"])
    scores = hash_encoder.encode([document.content for document in documents]) @ query[0]
    best = np.argsort(-scores)[:5]
    assert [ranked.score for ranked in found] == pytest.approx(scores[best].tolist(), abs=2e-3)
    assert set(ids(found)) == {documents[place].id for place in best}


def test_the_query_prompt_is_used_and_the_document_prompt_is_not(index, hash_encoder):
    prompts = []
    encode = hash_encoder.encode
    hash_encoder.encode = lambda texts, prompt=None: prompts.append(prompt) or encode(texts, prompt=prompt)
    Searcher(index, hash_encoder).search("gas", SearchOptions(mode="dense"))
    assert prompts == ["find: "]


def test_lexical_finds_only_documents_with_the_word(searcher):
    found = searcher.search("yeast", SearchOptions(k=60, mode="lexical"))
    assert {hit.id for hit in found} == {document.id for document in corpus() if "yeast" in document.text}


@pytest.mark.parametrize("fusion", ["weighted", "minmax", "rrf"])
@pytest.mark.parametrize("alpha", [None, 0.8])
def test_hybrid_is_the_fusion_of_both_sides(searcher, index, hash_encoder, fusion, alpha):
    alpha = None if fusion == "rrf" else alpha
    query = "gas star"
    vectors = hash_encoder.encode([query], prompt="find: ")
    near = [(hit.id, hit.score) for hit in index.search(vectors, 200)[0]]
    found = [(hit.id, hit.score) for hit in index.search_lexical(query, 200)]
    words = index.query_words(query)
    expected = fuse(near, found, words, fusion=fusion, alpha=alpha)[:7]
    ranked = searcher.rank([query], SearchOptions(k=7, fusion=fusion, alpha=alpha))[0]
    assert [(one.id, one.score) for one in ranked] == expected
    for one in ranked:
        assert one.parts.cosine == dict(near).get(one.id)
        assert one.parts.bm25 == dict(found).get(one.id)
        assert 0 <= one.parts.coverage <= 1


def test_a_hit_that_only_chance_brought_has_a_low_score(searcher):
    """Both sides are stretched to [0, 1] to be compared, and the scores that are shown are not."""
    good = searcher.search("gas star cloud water ship yeast", SearchOptions(k=1))[0]
    chance = searcher.search("gas taxes of nineteen former kingdoms overseas", SearchOptions(k=1))[0]
    assert good.score > 0.5 > 2 * chance.score
    assert good.to_dict()["parts"].keys() == {"cosine", "bm25", "coverage"}


def test_hits_carry_what_is_shown(searcher):
    hits = searcher.search("yeast", SearchOptions(k=3))
    assert [hit.rank for hit in hits] == [1, 2, 3]
    originals = {document.id: document for document in corpus()}
    for hit in hits:
        original = originals[hit.id]
        assert (hit.title, hit.text, hit.metadata) == (original.title, original.text, original.metadata)
        assert all(hit.snippet.text[start:end] == "yeast" for start, end in hit.snippet.marks)
    assert any(hit.snippet.marks for hit in hits)


def test_more_hits_than_documents_are_all_documents(searcher):
    assert len(searcher.search("gas", SearchOptions(k=1000, mode="dense"))) == 60


def test_a_word_that_no_document_has_finds_nothing_lexically(searcher):
    assert searcher.search("zebra", SearchOptions(mode="lexical")) == []


def test_a_batch_answers_as_single_queries_do(searcher):
    queries = ["gas", "star cloud", "dough yeast water"] * 100
    batch = searcher.rank(queries, SearchOptions(k=4))
    for query, ranking in zip(queries[:3], batch[-3:], strict=True):
        alone = searcher.rank([query], SearchOptions(k=4))[0]
        assert ids(ranking) == ids(alone)
        # A matrix product of many rows may add up in another order than that of one.
        assert [ranked.score for ranked in ranking] == pytest.approx([ranked.score for ranked in alone], abs=1e-5)


def test_conditions_hold_in_every_mode(searcher):
    for mode in ("dense", "lexical", "hybrid"):
        found = searcher.search("gas star yeast", SearchOptions(k=60, mode=mode, where="n < 10"))
        assert found
        assert all(hit.metadata["n"] < 10 for hit in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "^k must be at least 1, not 0"),
        ({"mode": "sparse"}, "dense, lexical, hybrid"),
        ({"fusion": "sum"}, "weighted, minmax, rrf"),
        ({"alpha": 1.5}, "^alpha must be from 0"),
        ({"alpha": 0.5, "fusion": "rrf"}, "^alpha weighs scores"),
        ({"rerank_depth": 0}, "^rerank_depth must"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        SearchOptions(**options)


@pytest.mark.parametrize("query", ["", " \t\n"])
def test_an_empty_query_is_refused(searcher, query):
    with pytest.raises(UsageError, match="query is empty"):
        searcher.search(query)


def test_without_an_encoder_only_lexical_works(index):
    searcher = Searcher(index)
    assert searcher.search("gas", SearchOptions(mode="lexical"))
    with pytest.raises(UsageError, match="mode must be lexical without an encoder"):
        searcher.search("gas", SearchOptions(mode="hybrid"))


def test_another_encoder_is_refused_by_name(index, make_hash_encoder):
    other = make_hash_encoder(seed="other")
    with pytest.raises(EncoderError, match=r"built with the encoder hash .*not with hashother"):
        Searcher(index, other)


class Backwards:
    """A reranker that turns the ranking around."""

    def score(self, query, passages):
        self.seen = passages
        return np.arange(len(passages), dtype=np.float32)


def test_reranking_orders_the_best_candidates_anew_and_only_those(index, hash_encoder):
    reranker = Backwards()
    plain = ids(Searcher(index, hash_encoder).rank(["gas"], SearchOptions(k=20, mode="dense"))[0])
    options = SearchOptions(k=5, mode="dense", rerank_depth=20)
    found = Searcher(index, hash_encoder, reranker=reranker).rank(["gas"], options)[0]
    assert [passage.id for passage in reranker.seen] == plain
    assert ids(found) == plain[::-1][:5]


def test_reranking_never_takes_hits_away(index, hash_encoder):
    options = SearchOptions(k=30, mode="dense", rerank_depth=5)
    assert len(Searcher(index, hash_encoder, reranker=Backwards()).rank(["gas"], options)[0]) == 30


def test_of_a_chunked_document_the_best_chunk_is_shown_and_reranked(tmp_path, hash_encoder):
    sentences = [f"Sentence {n} speaks of thing{n} and of nothing else at all." for n in range(12)]
    recipe = EmbeddingPlan(chunk=16, memory=True)
    index = Index.create(
        tmp_path / "chunks.index",
        dimension=hash_encoder.dimension,
        encoder={"name": hash_encoder.name, "fingerprint": hash_encoder.fingerprint},
        memory_tokens=hash_encoder.k,
    )
    fill_index(index, hash_encoder, [Document("long", " ".join(sentences)), Document("short", "Hi there.")], recipe)
    hit = Searcher(index, hash_encoder).search(sentences[7], SearchOptions(mode="dense"))[0]
    assert "thing7" in hit.text[slice(*hit.span)]
    assert "**thing7**" in hit.snippet.marked()
    reranker = Backwards()
    Searcher(index, hash_encoder, reranker=reranker).search(sentences[7], SearchOptions(k=1, mode="dense"))
    assert "thing7" in reranker.seen[0].text
    assert len(reranker.seen[0].text) < len(hit.text) / 2
    by_memory = MemoryReranker(hash_encoder, index.memory)
    found = Searcher(index, hash_encoder, reranker=by_memory).search(sentences[7], SearchOptions(mode="dense"))
    assert found[0].id == "long"
    expected = MemoryReranker(hash_encoder).score(sentences[7], reranker.seen[:1])
    assert found[0].score == pytest.approx(float(expected[0]), abs=2e-3)
    # Words say which document, not where in it: the chunk is the one that scores best.
    by_words = Searcher(index, hash_encoder, reranker=by_memory).search(sentences[7], SearchOptions(mode="lexical"))
    assert [hit.id for hit in by_words] == ["long"]
    assert "thing7" in by_words[0].text[slice(*by_words[0].span)]


def test_threads_search_while_another_one_changes_the_index(tmp_path, hash_encoder):
    """Hits, their texts and their memory vectors come from one generation, also when it is gone by the end."""
    index = Index.create(
        tmp_path / "x.index",
        dimension=hash_encoder.dimension,
        encoder={"name": hash_encoder.name, "fingerprint": hash_encoder.fingerprint},
        memory_tokens=hash_encoder.k,
    )
    fill_index(index, hash_encoder, corpus(), EmbeddingPlan(memory=True))
    stop, errors, counts = threading.Event(), [], [0, 0, 0]

    def search(place):
        searcher = Searcher(index, hash_encoder, reranker=MemoryReranker(hash_encoder, index.memory))
        try:
            while not stop.is_set():
                assert searcher.search("gas star bread", SearchOptions(k=30))
                known = next(index.ids())
                with contextlib.suppress(UsageError):  # it has gone
                    assert similar_documents(index, known, k=5)
                counts[place] += 1
        except Exception as error:  # noqa: BLE001  raised below
            errors.append(error)

    threads = [threading.Thread(target=search, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(60):
        with index.writer() as writer:
            writer.delete([f"d{turn:02}"])
            writer.commit()
        if turn >= 20 and min(counts) >= 5:
            break
        fill_index(index, hash_encoder, corpus()[: turn + 1], EmbeddingPlan(memory=True))
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert min(counts) >= 1


def test_pages_of_hits_follow_each_other(searcher):
    whole = searcher.search("gas star", SearchOptions(k=9))
    pages = [searcher.page("gas star", k=3, offset=offset) for offset in (0, 3, 6)]
    assert [hit for page in pages for hit in page.hits] == whole
    assert {(page.total, page.depth) for page in pages} == {(60, 200)}, "also those behind the page are counted"
    assert searcher.page("gas star", k=30, offset=180).depth == 210
    assert searcher.page("gas star", k=3, offset=60).hits == []
    with pytest.raises(UsageError, match="offset must be at least 0, not -1"):
        searcher.page("gas star", offset=-1)


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize("fusion", ["weighted", "minmax", "rrf"])
def test_a_hit_keeps_its_rank_however_many_are_wanted(searcher, monkeypatch, fusion, approximate):
    """Also far behind the depth at which both sides are joined, and where a deeper search finds what was missed."""
    monkeypatch.setattr("llm2comp_apps.retrieval.search._HYBRID_DEPTH", 10)
    monkeypatch.setattr("llm2comp_apps.retrieval.search._NEXT_DEPTH", 25)
    whole = Searcher._dense
    if approximate:
        monkeypatch.setattr(
            Searcher, "_dense",
            lambda *given: [found[given[3] == 10 :] for found in whole(*given)],
        )  # fmt: skip
    hits = searcher.rank(["gas star"], SearchOptions(k=60, fusion=fusion))[0]
    assert len(set(ids(hits))) == 60
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for k in range(1, 60):
        assert searcher.rank(["gas star"], SearchOptions(k=k, fusion=fusion))[0] == hits[:k]
    pages = [searcher.page("gas star", k=7, offset=offset, fusion=fusion) for offset in range(0, 63, 7)]
    assert [(hit.id, hit.rank) for page in pages for hit in page.hits] == [
        (hit.id, rank) for rank, hit in enumerate(hits, start=1)
    ]


def test_a_page_counts_values_among_all_hits_and_not_only_its_own(tmp_path, hash_encoder):
    colours = ["red", ["red", "blue"], None, "green", True]
    documents = [
        Document(f"d{n}", "star" if n < 10 else "bread", metadata={"colour": colours[n % 5], "at": {"year": 2000 + n}})
        for n in range(20)
    ]
    index = Index.create(
        tmp_path / "facets.index",
        dimension=hash_encoder.dimension,
        encoder={"name": hash_encoder.name, "fingerprint": hash_encoder.fingerprint},
    )
    fill_index(index, hash_encoder, documents, EmbeddingPlan())
    page = Searcher(index).page("star", k=2, mode="lexical", facets=["colour", "at.year", "nothing", '"', "."])
    assert (len(page.hits), page.total) == (2, 10)
    assert page.facets["colour"] == (("red", 4), ("blue", 2), ("green", 2), (True, 2))
    assert sorted(page.facets["at.year"]) == [(2000 + n, 1) for n in range(10)]
    assert page.facets["nothing"] == page.facets['"'] == page.facets["."] == ()


def test_a_page_takes_the_vector_of_a_query(index, searcher, hash_encoder):
    vector = hash_encoder.encode(["gas star"], prompt=hash_encoder.prompts["query"])[0]
    without = Searcher(index)
    for mode in ("dense", "hybrid"):
        expected = searcher.search("gas star", SearchOptions(k=5, mode=mode))
        assert without.page("gas star", k=5, mode=mode, vector=vector).hits == expected
    assert len(without.page("", k=5, mode="dense", vector=vector).hits) == 5
    with pytest.raises(UsageError, match="query is empty"):
        without.page("", mode="hybrid", vector=vector)


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_operators_hold_on_both_sides_of_what_people_type(searcher, mode):
    everything = corpus()
    query = "water +gas -yeast"
    hits = searcher.search(query, SearchOptions(k=60, mode=mode))
    allowed = {doc.id for doc in everything if "gas" in doc.text and "yeast" not in doc.text}
    assert {hit.id for hit in hits} == allowed
    assert len(searcher.search(query, SearchOptions(k=60, mode=mode, operators=False))) > len(allowed)
    assert len(searcher.rank([query], SearchOptions(k=60, mode=mode))[0]) > len(allowed)  # a run holds text
    assert set(ids(searcher.rank([query], SearchOptions(k=60, mode=mode, operators=True))[0])) == allowed


def test_operators_are_text_where_meanings_are_compared(searcher):
    dense = SearchOptions(k=60, mode="dense")
    assert len(searcher.search("water +gas -yeast", dense)) == 60


def test_words_that_begin_as_asked_are_marked(searcher):
    hit = searcher.search("mito*", SearchOptions(k=1, mode="lexical"))[0]
    assert {hit.snippet.text[start:end] for start, end in hit.snippet.marks} == {"mitosis"}
