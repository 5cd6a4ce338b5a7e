"""LangChain's own suites, and what they do not ask."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle

import pytest

pytest.importorskip("langchain_core", reason="needs the extra langchain")
pytest.importorskip("langchain_tests", reason="needs langchain-tests, which has LangChain's suites")
pytest.importorskip("faiss")

from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, RetrieversIntegrationTests
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from llm2comp_apps import Collection, CorpusError, Document, UsageError
from llm2comp_apps.integrations import langchain as ours
from llm2comp_apps.integrations.langchain import (
    LLM2CompEmbeddings,
    LLM2CompReranker,
    LLM2CompRetriever,
    LLM2CompVectorStore,
)


def with_asyncio(suite):
    """A suite whose asynchronous tests are marked: it is written for pytest-asyncio's automatic mode."""
    for name in dir(suite):
        test = getattr(suite, name)
        if inspect.iscoroutinefunction(test):
            setattr(suite, name, pytest.mark.asyncio(test))
    return suite


TEXTS = {
    "cells": "Cells divide by mitosis. Before a cell divides it copies its chromosomes.",
    "stars": "Stars are born in clouds of gas. A star burns hydrogen for most of its life.",
    "bread": "Bread rises because yeast makes gas. The dough rests before it is baked.",
}


@pytest.fixture
def collection(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "texts.index", encoder=hash_encoder) as made:
        years = {"cells": 1990, "stars": 2005, "bread": 2020}
        made.update(Document(key, text, key.title(), {"year": years[key]}) for key, text in TEXTS.items())
        yield made


@with_asyncio
class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self):
        store = LLM2CompVectorStore.from_texts([], self.get_embeddings())
        yield store
        store.collection.close()


@with_asyncio
class TestEmbeddings(EmbeddingsIntegrationTests):
    @pytest.fixture(autouse=True)
    def _encoder(self, hash_encoder):
        type(self).held = hash_encoder

    @property
    def embeddings_class(self):
        return LLM2CompEmbeddings

    @property
    def embedding_model_params(self):
        return {"encoder": self.held}


class TestEmbeddingsByName(EmbeddingsUnitTests):
    @pytest.fixture(autouse=True)
    def _by_name(self, hash_encoder, monkeypatch):
        monkeypatch.setattr(ours, "load_encoder", lambda name, device=None: hash_encoder)

    @property
    def embeddings_class(self):
        return LLM2CompEmbeddings

    @property
    def embedding_model_params(self):
        return {"encoder": "default"}


@with_asyncio
class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _collection(self, collection):
        type(self).held = collection

    @property
    def retriever_constructor(self):
        return LLM2CompRetriever

    @property
    def retriever_constructor_params(self):
        return {"collection": self.held}

    @property
    def retriever_query_example(self):
        return "how do cells and stars make bread"


def test_queries_have_their_prompt(hash_encoder):
    embeddings = LLM2CompEmbeddings(hash_encoder)
    assert embeddings.embed_query("cells") == hash_encoder.encode(["cells"], prompt="find: ")[0].tolist()
    assert embeddings.embed_documents(["cells"]) == hash_encoder.encode(["cells"]).tolist()


def test_a_store_over_what_is_there(collection):
    store = LLM2CompVectorStore(collection)
    (found, score), *_ = store.similarity_search_with_score("mitosis of cells", k=2)
    assert (found.id, found.metadata) == ("cells", {"year": 1990, "title": "Cells"})
    assert score > 0
    assert [one.id for one in store.similarity_search("gas", k=5, where="year >= 2005 and year < 2010")] == ["stars"]
    assert [one.id for one in store.similarity_search("gas", k=5, filter={"year": [2020, 1], "lang": None})] == [
        "bread"
    ]
    assert [one.id for one in store.similarity_search("gas", k=5, filter="year = 1990", mode="dense")] == ["cells"]
    reranked = store.similarity_search_with_score("Bread rises because yeast", k=1, rerank="memory")
    assert reranked[0][0].id == "bread"
    relevant = store.similarity_search_with_relevance_scores("yeast makes gas", k=3)
    assert all(0 <= score <= 1 for _, score in relevant)
    assert store.get_by_ids(["bread", "nothing", "cells"])[0].id == "bread"


def test_a_filter_finds_the_very_text(collection):
    days = ["2024-06-01", "2024/06/01", "1.1", "1.10"]
    collection.update(Document(day, "gas", metadata={"day": day}) for day in days)
    store = LLM2CompVectorStore(collection)
    for day in days:
        assert [one.id for one in store.similarity_search("gas", k=9, filter={"day": day})] == [day]
    assert len(store.similarity_search("gas", k=9, filter={"day": days[1:3]})) == 2
    assert len(store.similarity_search("gas", k=9, where="day = 2024-06-01")) == 2


def test_a_filter_asks_for_what_the_metadata_shows(collection):
    store = LLM2CompVectorStore(collection)
    for document in store.similarity_search("gas", k=9):
        for name, value in document.metadata.items():
            assert [one.id for one in store.similarity_search("gas", k=9, filter={name: value})] == [document.id]
    assert store.similarity_search("gas", k=9, filter={"title": None}) == []
    assert len(store.similarity_search("gas", k=9, where="title != 'Cells'")) == 2


def test_filter_and_condition_must_both_be_met(collection):
    store = LLM2CompVectorStore(collection)

    def found(**asked):
        return {one.id for one in store.similarity_search("gas", k=9, **asked)}

    assert found(where="year >= 2000", filter={"title": "Stars"}) == {"stars"}
    assert found(where="year >= 2000 or year < 1995", filter="year < 2010") == {"cells", "stars"}
    assert found(where="year >= 2000", filter={}) == {"stars", "bread"}
    with pytest.raises(UsageError, match="filter must be a dictionary"):
        found(filter=lambda document: True)


def test_deleting_takes_a_filter_and_nothing_unknown(collection):
    store = LLM2CompVectorStore(collection)
    with pytest.raises(UsageError, match="filters is unknown; nothing was deleted"):
        store.delete(filters={"year": 1990})
    store.delete(filter={})
    assert len(collection) == 3
    store.delete(filter={"title": "Cells"}, where="year < 2000")
    assert set(collection.index.ids()) == {"stars", "bread"}


def test_scores_without_a_bound_are_no_relevance(collection):
    store = LLM2CompVectorStore(collection, mode="lexical")
    with pytest.raises(UsageError, match="mode cannot be lexical: BM25 has no upper bound"):
        store.similarity_search_with_relevance_scores("gas", k=1)


def test_relevance_is_that_of_the_search_and_not_of_the_store(collection):
    stores = {mode: LLM2CompVectorStore(collection, mode=mode) for mode in ("hybrid", "dense", "lexical")}
    for mode in ("hybrid", "dense"):
        wanted = stores[mode].similarity_search_with_relevance_scores("yeast makes gas", k=3)
        for other in stores.values():
            assert other.similarity_search_with_relevance_scores("yeast makes gas", k=3, mode=mode) == wanted
            found = asyncio.run(other.asimilarity_search_with_relevance_scores("yeast makes gas", k=3, mode=mode))
            assert found == wanted
    with pytest.raises(UsageError, match=r"mode cannot be lexical: BM25 has no upper bound"):
        stores["dense"].similarity_search_with_relevance_scores("gas", k=1, mode="lexical")
    again = stores["hybrid"].similarity_search_with_relevance_scores("yeast makes gas", k=3, rerank="words")
    assert all(0 <= score <= 1 for _, score in again)
    with pytest.raises(UsageError, match=r"rerank cannot be a model, whose scores have no bounds"):
        stores["dense"].similarity_search_with_relevance_scores("gas", k=1, rerank="upr")
    asked = {"query": "yeast", "k": 3, "rerank": "memory"}
    scores = [max(score, 0.0) for _, score in stores["dense"].similarity_search_with_score(**asked)]
    assert [score for _, score in stores["dense"].similarity_search_with_relevance_scores(**asked)] == scores


def test_a_title_that_is_no_text_stays_what_it_is(collection):
    titles = {"number": 1984, "zero": 0, "list": ["a", "b"], "nothing": None, "empty": ""}
    store = LLM2CompVectorStore(collection)
    store.add_texts(["gas"] * len(titles), [{"title": title} for title in titles.values()], ids=list(titles))
    assert {one.id: one.metadata["title"] for one in store.get_by_ids(list(titles))} == titles
    assert [one.id for one in store.similarity_search("gas", k=9, filter={"title": 1984})] == ["number"]


def test_titles_are_part_of_what_is_searched(collection):
    store = LLM2CompVectorStore(collection)
    store.add_documents([LangChainDocument(page_content="no word of it", metadata={"title": "Submarines"}, id="s")])
    assert store.similarity_search("submarines", k=1, mode="lexical")[0].id == "s"
    assert next(collection.documents("_id = 's'")).title == "Submarines"
    store.delete(where="year < 2000")
    assert store.get_by_ids(["cells"]) == []
    store.delete()
    assert len(collection) == 0


def test_different_documents_by_marginal_relevance(tmp_path, hash_encoder):
    store = LLM2CompVectorStore.from_texts(
        ["cells divide", "cells divide", "cells divide now", "stars burn"],
        LLM2CompEmbeddings(hash_encoder), ids=list("abcd"), path=tmp_path / "m.index",
    )  # fmt: skip
    near = [one.id for one in store.similarity_search("cells divide", k=2, mode="dense")]
    far = [one.id for one in store.max_marginal_relevance_search("cells divide", k=2, lambda_mult=0.1)]
    assert set(near) <= {"a", "b", "c"}
    assert "d" in far
    store.collection.close()
    assert len(LLM2CompVectorStore.open(tmp_path / "m.index", encoder=hash_encoder).collection) == 4


def test_marginal_relevance_reads_no_document_again(tmp_path, hash_encoder, monkeypatch):
    titles = {"n": None, "i": 5, "l": ["a"], "t": "Cells"}
    store = LLM2CompVectorStore(Collection.create(tmp_path / "m.index", encoder=hash_encoder))
    store.add_texts(["cells divide"] * 4, [{"title": title} for title in titles.values()], ids=list(titles))
    read = []
    encode = hash_encoder.encode
    monkeypatch.setattr(hash_encoder, "encode", lambda texts, **named: read.extend(texts) or encode(texts, **named))
    assert len(store.max_marginal_relevance_search("cells divide", k=4)) == 4
    assert set(read) == {"cells divide"}


def test_a_vector_finds_what_its_text_finds_by_meaning(tmp_path, hash_encoder):
    store = LLM2CompVectorStore(Collection.create(tmp_path / "v.index", encoder=hash_encoder, chunk=16))
    texts = ["cells divide " * 29, "stars burn " * 27, "ships sail at night", "rivers run to the sea"]
    store.add_texts(texts, [{"n": place} for place in range(4)], ids=list("abcd"))
    for text in ("stars burn", "sail at night"):
        vector = store.embeddings.embed_query(text)
        expected = [one.id for one in store.similarity_search(text, k=3, mode="dense")]
        assert [one.id for one in store.similarity_search_by_vector(vector, k=3)] == expected
        assert [one.id for one in store.similarity_search_by_vector([9 * x for x in vector], k=3)] == expected
        far = store.max_marginal_relevance_search(text, k=3, lambda_mult=0.3, mode="dense")
        assert store.max_marginal_relevance_search_by_vector(vector, k=3, lambda_mult=0.3) == far
    (found,) = store.similarity_search_by_vector(vector, filter={"n": 3})
    assert found.id == "d"
    assert store.max_marginal_relevance_search_by_vector(vector, where="n > 9") == []
    with pytest.raises(UsageError, match=r"^vector must be a vector of \d+ numbers, not of the shape \(2,\)$"):
        store.similarity_search_by_vector([0.1, 0.2])


def test_marginal_relevance_takes_the_chunk_that_was_meant(tmp_path, hash_encoder):
    store = LLM2CompVectorStore(Collection.create(tmp_path / "v.index", encoder=hash_encoder, chunk=16))
    store.add_texts(["stars burn " * 16 + "cells divide " * 90, "cells divide", "stars burn"], ids=list("abc"))
    chosen = store.max_marginal_relevance_search("stars burn", k=2, lambda_mult=0.2, mode="dense")
    assert sorted(one.id for one in chosen) in (["a", "b"], ["b", "c"])  # a and c say the same of stars


def test_one_text_in_place_of_ids_is_refused(collection):
    with pytest.raises(UsageError, match=r"not with one text; write \['cells'\]$"):
        LLM2CompVectorStore(collection).get_by_ids("cells")


def test_lists_that_do_not_belong_together(collection):
    with pytest.raises(UsageError, match="2 texts, 1 metadatas and 2 ids do not belong together"):
        LLM2CompVectorStore(collection).add_texts(["a", "b"], [{}], ids=["1", "2"])


def test_another_embedding_is_another_encoder(tmp_path):
    store = LLM2CompVectorStore.from_texts(["a text"], DeterministicFakeEmbedding(size=6), path=tmp_path / "x.index")
    assert store.collection.encoder.name == "langchain:DeterministicFakeEmbedding"
    store.collection.close()
    with pytest.raises(Exception, match="encoder"):
        LLM2CompVectorStore.open(tmp_path / "x.index").similarity_search("a", mode="dense")


def test_a_store_that_stays_is_opened_with_its_embeddings(tmp_path, tiny_encoder_dir):
    own = LLM2CompEmbeddings(str(tiny_encoder_dir), device="cpu")
    LLM2CompVectorStore.from_texts(["a text"], own, path=tmp_path / "named.index").collection.close()
    assert [one.page_content for one in LLM2CompVectorStore.open(tmp_path / "named.index").similarity_search("a")]
    for place, embeddings in enumerate([LLM2CompEmbeddings(own.encoder), DeterministicFakeEmbedding(size=6)]):
        path = tmp_path / f"{place}.index"
        LLM2CompVectorStore.from_texts(["a text"], embeddings, path=path).collection.close()
        again = LLM2CompVectorStore.open(path, encoder=embeddings)
        assert [one.page_content for one in again.similarity_search("a")] == ["a text"]


def test_reranking_what_others_found(hash_encoder, monkeypatch):
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, device=None: hash_encoder)
    found = [LangChainDocument(page_content=text, metadata={"n": 1}, id=key) for key, text in TEXTS.items()]
    with pytest.raises(ValueError, match=r"top_n"):
        LLM2CompReranker(top_n=-1)  # would drop the worst
    kept = LLM2CompReranker(top_n=2).compress_documents(found, "Bread rises because yeast makes gas")
    assert kept[0].id == "bread"
    assert len(kept) == 2
    assert kept[0].metadata["relevance_score"] > kept[1].metadata["relevance_score"]
    assert found[2].metadata == {"n": 1}
    assert LLM2CompReranker().compress_documents([], "anything") == []


def test_a_reranker_reads_titles(hash_encoder, monkeypatch):
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, device=None: hash_encoder)
    title = "Bread rises because yeast makes gas"
    found = [LangChainDocument(page_content="Then.", metadata=own) for own in ({}, {"title": title})]
    best, other = LLM2CompReranker().compress_documents(found, title)
    assert best.metadata["title"] == title
    assert best.metadata["relevance_score"] > other.metadata["relevance_score"]


def test_a_store_whose_first_texts_are_refused_leaves_its_place_free(tmp_path, hash_encoder):
    embeddings, path = LLM2CompEmbeddings(hash_encoder), tmp_path / "l.index"
    with pytest.raises(CorpusError, match=r"cannot be stored: Object of type object"):
        LLM2CompVectorStore.from_texts(["a text"], embeddings, [{"what": object()}], path=path)
    with pytest.raises(UsageError, match=r"do not belong together"):
        LLM2CompVectorStore.from_texts(["a text"], embeddings, [{}, {}], path=path)
    assert list(tmp_path.iterdir()) == []
    assert len(LLM2CompVectorStore.from_texts(["a text"], embeddings, [{"what": 1}], path=path).collection) == 1


def test_texts_without_metadata_and_what_is_no_text(collection):
    store = LLM2CompVectorStore(collection)
    store.add_texts(["gas", "gas"], [None, {"year": 1}], ids=["none", "some"])
    assert [one.metadata for one in store.get_by_ids(["none", "some"])] == [{}, {"year": 1}]
    with pytest.raises(CorpusError, match=r"^document 0 cannot be stored: its id must be text, not 0$"):
        store.add_texts(["gas"], ids=[0])
    with pytest.raises(CorpusError, match=r"its text must be text, not 5$"):
        store.add_texts([5])
    with pytest.raises(UsageError, match=r"^metadatas must be dictionaries or None, not 'year'$"):
        store.add_texts(["gas"], ["year"])
    with pytest.raises(UsageError, match=r"^texts must be a list, not one text; write \['gas'\]$"):
        store.add_texts("gas")
    with pytest.raises(UsageError, match=r"^ids must be a list, not one text"):
        store.add_texts(["gas"], ids="x")
    assert len(collection) == 5


def test_stores_and_retrievers_are_pickled_and_copied(tmp_path, collection, hash_encoder):
    retriever = LLM2CompRetriever(collection=collection, k=1)
    for again in (pickle.loads(pickle.dumps(retriever)), retriever.model_copy(deep=True)):
        assert [one.id for one in again.invoke("yeast makes gas")] == ["bread"]
        assert again.collection.index is not collection.index
    scratch = LLM2CompVectorStore.from_texts(["a text"], LLM2CompEmbeddings(hash_encoder), ids=["a"])
    copied = copy.deepcopy(scratch)
    with pytest.raises(UsageError, match=r"path must be given for a store that is pickled"):
        pickle.dumps(scratch)
    scratch.collection.close()
    del scratch
    gc.collect()
    assert [one.id for one in copied.similarity_search("text")] == ["a"]
    copied.collection.close()


def test_threads_write_one_after_another(tmp_path, slow_encoder):
    store = LLM2CompVectorStore(Collection.create(tmp_path / "t.index", encoder=slow_encoder))
    other = LLM2CompVectorStore.open(tmp_path / "t.index", encoder=slow_encoder)

    async def together():
        added = [(store, other)[place % 2].aadd_texts([f"text {place}"], ids=[str(place)]) for place in range(4)]
        await asyncio.gather(*added, store.adelete(["0"]), store.asimilarity_search("text"))

    asyncio.run(together())
    store.collection.index.refresh()  # the other store may have written last
    assert {"1", "2", "3"} <= {one.id for one in store.get_by_ids(["0", "1", "2", "3"])}


def test_one_of_several_values_may_be_none(collection):
    store = LLM2CompVectorStore(collection)
    store.add_texts(["gas"] * 2, [{"year": None}, {}], ids=["none", "missing"])
    found = {one.id for one in store.similarity_search("gas", k=9, filter={"year": [2005, None]})}
    assert found == {"stars", "none", "missing"}
