"""LlamaIndex: indexes built and queried over a collection, filters, and reranking."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("llama_index.core", reason="needs the extra llama-index")
pytest.importorskip("faiss")

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from llm2comp_apps import Collection, Document, UsageError
from llm2comp_apps.integrations import llama_index as ours
from llm2comp_apps.integrations.llama_index import LLM2CompEmbedding, LLM2CompReranker, LLM2CompVectorStore

TEXTS = {
    "cells": "Cells divide by mitosis. Before a cell divides it copies its chromosomes.",
    "stars": "Stars are born in clouds of gas. A star burns hydrogen for most of its life.",
    "bread": "Bread rises because yeast makes gas. The dough rests before it is baked.",
}


def nodes():
    made = []
    for place, (key, text) in enumerate(TEXTS.items()):
        node = TextNode(id_=key, text=text, metadata={"year": 1990 + 10 * place, "tags": [key, "all"]})
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"file-{place}")
        made.append(node)
    return made


@pytest.fixture
def store(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "l.index", encoder=hash_encoder) as collection:
        yield LLM2CompVectorStore(collection)


@pytest.fixture
def embedding(hash_encoder):
    return LLM2CompEmbedding(hash_encoder)


@pytest.fixture
def filled(store, embedding):
    VectorStoreIndex(nodes(), storage_context=StorageContext.from_defaults(vector_store=store), embed_model=embedding)
    return store


def test_embeddings(embedding, hash_encoder):
    assert embedding.model_name == "hash"
    assert embedding.get_query_embedding("cells") == hash_encoder.encode(["cells"], prompt="find: ")[0].tolist()
    assert embedding.get_text_embedding_batch(["a", "b"]) == hash_encoder.encode(["a", "b"]).tolist()
    assert asyncio.run(embedding.aget_query_embedding("a")) == embedding.get_query_embedding("a")


def test_an_embedding_that_was_pickled_or_written_down_is_no_other(hash_encoder, make_hash_encoder, monkeypatch):
    other = make_hash_encoder(seed="2")
    names = {"default": hash_encoder, "other": other}
    monkeypatch.setattr(ours, "load_encoder", lambda name, device=None: names[name])
    expected = other.encode(["a"]).tolist()
    for made in (LLM2CompEmbedding("other", embed_batch_size=7), LLM2CompEmbedding(other, embed_batch_size=7)):
        again = pickle.loads(pickle.dumps(made))
        assert again.get_text_embedding_batch(["a"]) == expected
        assert again.to_dict() == made.to_dict()
    written = LLM2CompEmbedding.from_dict(LLM2CompEmbedding("other").to_dict())
    assert written.get_text_embedding_batch(["a"]) == expected
    with pytest.raises(UsageError, match="encoder was a loaded encoder, which cannot be written down"):
        LLM2CompEmbedding.from_dict(LLM2CompEmbedding(other).to_dict())
    other.held = lambda: None  # cannot be pickled, as little as a session of ONNX Runtime
    assert pickle.loads(pickle.dumps(LLM2CompEmbedding("other"))).get_text_embedding_batch(["a"]) == expected
    with pytest.raises(UsageError, match=r"encoder.*nor was it pickled; give the name of one"):
        pickle.loads(pickle.dumps(LLM2CompEmbedding(other)))
    hash_encoder.name = other.name  # LlamaIndex keeps vectors by what an embedding writes down
    assert LLM2CompEmbedding(hash_encoder).to_dict() != LLM2CompEmbedding(other).to_dict()


@pytest.mark.parametrize("mode", ["default", "hybrid", "text_search"])
def test_an_index_over_a_collection(filled, embedding, mode):
    index = VectorStoreIndex.from_vector_store(filled, embed_model=embedding)
    retriever = index.as_retriever(similarity_top_k=2, vector_store_query_mode=mode)
    best = retriever.retrieve("how does a cell divide by mitosis")[0]
    assert (best.node.node_id, best.node.metadata["year"]) == ("cells", 1990)
    assert best.node.ref_doc_id == "file-0"
    assert best.node.get_content() == TEXTS["cells"]
    assert best.score > 0


def test_a_collection_is_open_to_other_programs(filled, tmp_path, hash_encoder):
    assert [hit.id for hit in filled.client.search("yeast", k=1, where="year >= 2000")] == ["bread"]
    filled.client.close()
    again = LLM2CompVectorStore.open(tmp_path / "l.index", encoder=hash_encoder)
    assert len(again.get_nodes()) == 3


def test_nodes_without_vectors_are_embedded(store):
    assert store.add(nodes()) == list(TEXTS)
    assert len(store.client) == 3
    assert store.add(nodes()[:1]) == ["cells"]
    assert len(store.client) == 3


def ids(store, *filters, condition=FilterCondition.AND):
    return [
        node.node_id for node in store.get_nodes(filters=MetadataFilters(filters=list(filters), condition=condition))
    ]


OPERATORS = FilterOperator


@pytest.mark.parametrize(
    ("key", "operator", "value", "found"),
    [
        ("year", OPERATORS.EQ, 2000, ["stars"]),
        ("year", OPERATORS.NE, 2000, ["cells", "bread"]),
        ("year", OPERATORS.GTE, 2000, ["stars", "bread"]),
        ("year", OPERATORS.IN, [1990, 2010], ["cells", "bread"]),
        ("year", OPERATORS.NIN, [1990, 2010], ["stars"]),
        ("tags", OPERATORS.CONTAINS, "bread", ["bread"]),
        ("tags", OPERATORS.ANY, ["bread", "cells"], ["cells", "bread"]),
        ("tags", OPERATORS.ALL, ["bread", "all"], ["bread"]),
        ("tags", OPERATORS.ALL, [], ["cells", "stars", "bread"]),
        ("ref_doc_id", OPERATORS.TEXT_MATCH, "file-1", ["stars"]),
        ("nothing", OPERATORS.IS_EMPTY, None, ["cells", "stars", "bread"]),
    ],
)
def test_filters(filled, key, operator, value, found):
    assert ids(filled, MetadataFilter(key=key, operator=operator, value=value)) == found


@pytest.mark.parametrize("operator", [OPERATORS.IN, OPERATORS.NIN, OPERATORS.ANY, OPERATORS.ALL])
@pytest.mark.parametrize("value", ["bread", None])
def test_an_operator_of_lists_takes_a_list(filled, operator, value):
    with pytest.raises(UsageError, match=f"filters must have a list for the operator {operator.value!r}, not"):
        ids(filled, MetadataFilter(key="tags", operator=operator, value=value))


def test_no_filters_inside_of_others_are_no_condition(filled):
    year = MetadataFilter(key="year", value=2000)
    assert ids(filled, year, MetadataFilters(filters=[])) == ["stars"]


def test_nodes_whose_vectors_do_not_fit_change_nothing(store):
    fit, bare = TextNode(text="x", embedding=[1.0] * 32), TextNode(text="x")
    with pytest.raises(UsageError, match="have 3 numbers, and this collection's 32"):
        store.add([bare, fit, TextNode(text="x", embedding=[1.0] * 3)])
    assert len(store.client) == 0


def test_what_is_empty_is_null_or_holds_nothing(store):
    values = {"a": [], "b": "", "c": None, "d": ["x"], "e": "x", "f": {"x": 1}, "g": 0}
    made = [TextNode(id_=key, text="some words", metadata={"tags": value}) for key, value in values.items()]
    store.add([*made, TextNode(id_="h", text="some words")])
    assert ids(store, MetadataFilter(key="tags", operator=OPERATORS.IS_EMPTY, value=None)) == ["a", "b", "c", "h"]


def test_alpha_weighs_meaning_and_words(store, hash_encoder):
    store.add([TextNode(id_="words", text="apple pie"), TextNode(id_="meaning", text="zebra stripes")])
    asked = VectorStoreQuery(
        query_embedding=hash_encoder.encode(["apple pie"])[0].tolist(),
        query_str="apple pie",
        similarity_top_k=2,
        mode=VectorStoreQueryMode.HYBRID,
    )
    scores = []
    for alpha in (0.0, 0.5, 1.0):
        asked.alpha = alpha
        scores.append(store.query(asked).similarities)
    found = [hit.score for hit in store.client.search("apple pie", k=2, alpha=0.5)]
    assert scores[1] == found
    assert len({tuple(each) for each in scores}) == 3


def test_filters_together(filled):
    first, last = (MetadataFilter(key="year", value=year) for year in (1990, 2010))
    assert ids(filled, first, last) == []
    assert ids(filled, first, last, condition=FilterCondition.OR) == ["cells", "bread"]
    assert ids(filled, first, last, condition=FilterCondition.NOT) == ["stars"]
    inner = MetadataFilters(filters=[first, last], condition=FilterCondition.OR)
    assert ids(filled, inner, MetadataFilter(key="tags", operator=OPERATORS.CONTAINS, value="bread")) == ["bread"]


def test_deleting(filled):
    filled.delete("file-1")
    assert [node.node_id for node in filled.get_nodes()] == ["cells", "bread"]
    filled.delete_nodes(["cells", "nothing"])
    filled.delete_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="year", value=1)]))
    assert [node.node_id for node in filled.get_nodes()] == ["bread"]
    filled.delete("nothing")
    filled.clear()
    assert filled.get_nodes() == []


def test_a_document_named_by_a_date_is_no_other(store):
    names = ["2024-06-01", "2024-06-01 10:00", "June 1, 2024", "2024/06/01", "1.10", "1.1"]
    made = []
    for name in names:
        made.append(TextNode(id_=name, text="some words", metadata={"day": name}))
        made[-1].relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=name)
    store.add(made)
    for name in names:
        assert ids(store, MetadataFilter(key="day", value=name)) == [name]
        assert ids(store, MetadataFilter(key="day", operator=OPERATORS.IN, value=[name])) == [name]
        assert ids(store, MetadataFilter(key="day", operator=OPERATORS.ALL, value=[name])) == [name]
        others = [other for other in names if other != name]
        assert ids(store, MetadataFilter(key="day", operator=OPERATORS.NE, value=name)) == others
        assert store.query(VectorStoreQuery([1.0] * 32, similarity_top_k=9, doc_ids=[name])).ids == [name]
    while names:
        store.delete(names.pop(0))
        assert [node.node_id for node in store.get_nodes()] == names


def test_nodes_far_from_each_other(tmp_path, hash_encoder, embedding):
    texts = {"a": "cells divide", "b": "cells divide", "c": "cells divide now", "d": "stars burn"}
    store = LLM2CompVectorStore.create(tmp_path / "m.index", encoder=hash_encoder)
    store.add(
        [TextNode(text=text, id_=id_, embedding=embedding.get_text_embedding(text)) for id_, text in texts.items()]
    )
    asked = embedding.get_query_embedding("cells divide")

    def found(threshold, **more):
        query = VectorStoreQuery(
            query_embedding=asked, similarity_top_k=2, mode=VectorStoreQueryMode.MMR, mmr_threshold=threshold
        )
        return store.query(query, **more)

    far = found(0.1)
    assert "d" in far.ids
    assert far.similarities == pytest.approx(
        [1.0, float(np.dot(asked, embedding.get_text_embedding("stars burn")))], abs=1e-3
    )
    assert set(found(1.0).ids) == set(found(0.1, mmr_prefetch_k=2).ids) == {"a", "b"}
    retriever = VectorStoreIndex.from_vector_store(store, embed_model=embedding).as_retriever(
        similarity_top_k=2, vector_store_query_mode="mmr", vector_store_kwargs={"mmr_threshold": 0.1}
    )
    assert "d" in [one.node.node_id for one in retriever.retrieve("cells divide")]
    store.delete_nodes(list(texts))
    assert found(0.5).ids == []


def test_what_cannot_be_searched(filled, embedding):
    asked = embedding.get_query_embedding("cells")
    with pytest.raises(UsageError, match="mode must be one of"):
        filled.query(VectorStoreQuery(query_embedding=asked, mode=VectorStoreQueryMode.SVM))
    with pytest.raises(UsageError, match="query_embedding is missing: a search by meaning needs the query's vector"):
        filled.query(VectorStoreQuery(query_str="cells"))
    with pytest.raises(UsageError, match="have 3 numbers, and this collection's 32"):
        filled.query(VectorStoreQuery(query_embedding=[1.0, 2.0, 3.0]))
    only = filled.query(VectorStoreQuery(query_embedding=asked, similarity_top_k=5, doc_ids=["file-2"]))
    assert only.ids == ["bread"]
    assert filled.query(VectorStoreQuery(query_embedding=asked, node_ids=["stars", "x"], similarity_top_k=5)).ids == [
        "stars"
    ]


def test_reranking_what_others_found(hash_encoder, monkeypatch):
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, device=None: hash_encoder)
    found = [NodeWithScore(node=node, score=0.5) for node in nodes()]
    with pytest.raises(ValueError, match=r"top_n"):
        LLM2CompReranker(top_n=-1)  # would drop the worst
    kept = LLM2CompReranker(top_n=1).postprocess_nodes(found, query_str="Bread rises because yeast makes gas")
    assert [one.node.node_id for one in kept] == ["bread"]
    assert LLM2CompReranker().postprocess_nodes([], query_str="x") == []
    with pytest.raises(UsageError, match="needs the query"):
        LLM2CompReranker().postprocess_nodes(found)


def test_a_store_is_pickled_and_copied(filled, tmp_path, make_hash_encoder):
    for again in (pickle.loads(pickle.dumps(filled)), copy.deepcopy(filled)):
        assert {node.node_id for node in again.get_nodes()} == set(TEXTS)
        assert again.client.index is not filled.client.index
    stuck = make_hash_encoder()
    stuck.lock = threading.Lock()
    with Collection.create(tmp_path / "stuck.index", encoder=stuck) as collection:
        written = pickle.dumps(LLM2CompVectorStore(collection))
        with pytest.raises(UsageError, match=r"collection was not pickled, since its encoder cannot be"):
            pickle.loads(written)
        assert copy.deepcopy(LLM2CompVectorStore(collection)).client.encoder is stuck


def test_one_text_in_place_of_ids_deletes_and_finds_nothing(store, hash_encoder):
    store.add([TextNode(id_=key, text=f"text {key}") for key in "123"])
    for call in (store.delete_nodes, store.get_nodes):
        with pytest.raises(UsageError, match=r"not with one text; write \['12'\]$"):
            call("12")
    assert len(store.get_nodes()) == 3


def test_nodes_with_vectors_are_refused_where_memory_vectors_are_stored(tmp_path, hash_encoder, embedding):
    with Collection.create(tmp_path / "memory.index", encoder=hash_encoder, memory=True) as collection:
        store = LLM2CompVectorStore(collection)
        context = StorageContext.from_defaults(vector_store=store)
        with pytest.raises(UsageError, match=r"^memory stores memory vectors, which LlamaIndex does not make"):
            VectorStoreIndex(nodes(), storage_context=context, embed_model=embedding)
        store.add(nodes())  # the collection's encoder makes both
        assert len(store.get_nodes()) == 3


def test_documents_that_are_no_nodes_are_named(store, embedding):
    store.client.update([Document("d1", "a document of a build")])
    retriever = VectorStoreIndex.from_vector_store(store, embed_model=embedding).as_retriever()
    for read in (store.get_nodes, lambda: retriever.retrieve("a document")):
        with pytest.raises(UsageError, match=r"^collection holds the document 'd1', which LlamaIndex did not write"):
            read()


def test_threads_write_one_after_another(tmp_path, slow_encoder):
    store = LLM2CompVectorStore.create(tmp_path / "t.index", encoder=slow_encoder)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda node: store.add([node]), nodes()))
        assert sorted(node.node_id for node in store.get_nodes()) == sorted(TEXTS)
        list(threads.map(lambda place: store.delete(f"file-{place}"), range(3)))
    assert store.get_nodes() == []
