"""Haystack's own suite for document stores, and our components in a pipeline."""

from __future__ import annotations

import copy
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
pytest.importorskip("haystack", reason="needs the extra haystack")
pytest.importorskip("faiss")

from dataclasses import replace

from haystack import Document, Pipeline
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing.document_store import DocumentStoreBaseTests

from llm2comp_apps import Collection, CorpusError, UsageError
from llm2comp_apps.integrations import haystack as ours
from llm2comp_apps.integrations.haystack import (
    LLM2CompDocumentEmbedder,
    LLM2CompDocumentStore,
    LLM2CompRetriever,
    LLM2CompTextEmbedder,
)


@pytest.fixture(name="empty_store")
def _empty_store(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "store.index", encoder=hash_encoder) as made:
        yield LLM2CompDocumentStore.of(made)


@pytest.fixture
def document_store(empty_store):
    return empty_store


class TestDocumentStore(DocumentStoreBaseTests):
    """A collection makes its own vectors, so those of the suite's documents do not come back."""

    @pytest.fixture
    def document_store(self, empty_store):
        return empty_store

    @staticmethod
    def assert_documents_are_equal(received, expected):
        def bare(documents):
            return sorted((replace(one, embedding=None) for one in documents), key=lambda one: one.id)

        assert bare(received) == bare(expected)

    def test_write_documents(self, document_store):
        one = Document(content="a text")
        assert document_store.write_documents([one]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([one])
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([Document(content="twice"), Document(content="twice")])


def documents():
    texts = {"cells": "Cells divide by mitosis.", "stars": "Stars burn hydrogen.", "bread": "Bread rises by yeast."}
    days = ["2024-06-01", "2024/06/01", "2024-06-01 10:00"]
    return [
        Document(
            id=key,
            content=text,
            meta={"year": 1990 + place * 10, "tags": [key, "all"], "author": {"name": key}, "day": days[place]},
        )
        for place, (key, text) in enumerate(texts.items())
    ]


def test_order_and_skipping(document_store):
    document_store.write_documents(documents())
    assert {one.id for one in document_store.filter_documents()} == {"cells", "stars", "bread"}
    more = [Document(id="cells", content="other"), Document(id="new", content="new"), Document(id="new", content="x")]
    assert document_store.write_documents(more, DuplicatePolicy.SKIP) == 1
    assert [one.content for one in document_store.filter_documents()][-1] == "new"
    with pytest.raises(ValueError, match="needs content"):
        document_store.write_documents([Document(content=None, meta={"a": 1})])


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"field": "meta.year", "operator": "in", "value": []}, []),
        ({"field": "meta.year", "operator": "not in", "value": []}, ["cells", "stars", "bread"]),
        ({"field": "meta.author.name", "operator": "==", "value": "stars"}, ["stars"]),
        ({"field": "meta.tags", "operator": "==", "value": "bread"}, ["bread"]),
        ({"field": "id", "operator": "!=", "value": "bread"}, ["cells", "stars"]),
        ({"field": "meta.day", "operator": "==", "value": "2024-06-01"}, ["cells"]),
        ({"field": "meta.day", "operator": "!=", "value": "2024-06-01"}, ["stars", "bread"]),
        ({"field": "meta.day", "operator": "in", "value": ["2024/06/01"]}, ["stars"]),
        ({"field": "meta.day", "operator": ">=", "value": "2024-06-01"}, ["cells", "stars", "bread"]),
        ({"field": "meta.it's odd", "operator": "==", "value": "it's"}, []),
        (
            {"operator": "OR", "conditions": [
                {"field": "meta.year", "operator": "<", "value": 1995},
                {"field": "meta.year", "operator": ">=", "value": 2010},
            ]},
            ["cells", "bread"],
        ),
    ],
)  # fmt: skip
def test_filters(document_store, filters, found):
    document_store.write_documents(documents())
    assert {one.id for one in document_store.filter_documents(filters)} == set(found)


def test_a_title_is_filtered_as_the_meta_field_that_it_was(document_store):
    titles = {"a": "Alpha", "b": "Beta", "c": "", "d": None, "e": ["Alpha", "x"], "f": 5}
    written = [Document(id=key, content="x", meta={"title": title, "n": 1}) for key, title in titles.items()]
    document_store.write_documents([*written, Document(id="g", content="x")])

    def found(operator, value):
        filters = {"field": "meta.title", "operator": operator, "value": value}
        return "".join(one.id for one in document_store.filter_documents(filters))

    assert [one.meta for one in document_store.filter_documents()][:-1] == [one.meta for one in written]
    assert found("==", "Alpha") == found("in", ["Alpha", "z"]) == "ae"
    assert found("!=", "Alpha") == found("not in", ["Alpha", "z"]) == "bcdfg"
    assert found("==", "") == "c"
    assert found("==", None) == "dg"
    assert found(">", 4) == "f"


def test_a_meta_field_that_is_called_as_the_id_is_refused(document_store):
    document_store.write_documents([Document(id="cells", content="x", meta={"_id": "mine"})])
    with pytest.raises(FilterError, match=r"^a filter cannot name meta\._id"):
        document_store.filter_documents({"field": "meta._id", "operator": "==", "value": "mine"})


@pytest.mark.parametrize("name", ["content", "score", "embedding", "meta"])
def test_what_no_condition_reaches_is_refused(document_store, name):
    with pytest.raises(FilterError, match=f"such as meta.year, not for {name}"):
        document_store.filter_documents({"field": name, "operator": "==", "value": "x"})


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "meta.a", "operator": "~", "value": 1},
        {"operator": "XOR", "conditions": []},
        {"field": 'meta."', "operator": "==", "value": 1},
        {"field": None, "operator": "==", "value": 1},
        {"operator": "AND", "conditions": 5},
        {"operator": "AND", "conditions": [5]},
    ],
)
def test_filters_that_are_none(document_store, filters):
    with pytest.raises(FilterError):
        document_store.filter_documents(filters)


@pytest.mark.parametrize(("operator", "found"), [("AND", 1), ("OR", 0), ("NOT", 0)])
def test_no_conditions_are_read_as_python_reads_them(document_store, operator, found):
    document_store.write_documents([Document(id="a", content="x")])
    assert len(document_store.filter_documents({"operator": operator, "conditions": []})) == found


def test_a_pipeline_written_down_and_read_again(tmp_path, hash_encoder, monkeypatch):
    path = tmp_path / "p.index"
    with Collection.create(path, encoder=hash_encoder) as made:
        LLM2CompDocumentStore.of(made).write_documents(documents())
    pipeline = Pipeline()
    pipeline.add_component("retriever", LLM2CompRetriever(LLM2CompDocumentStore(path), top_k=2, mode="lexical"))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["llm2comp_apps.integrations.haystack"])
    only = {"field": "meta.year", "operator": ">", "value": 1995}
    found = again.run({"retriever": {"query": "yeast or mitosis", "filters": only}})["retriever"]["documents"]
    assert [one.id for one in found] == ["bread"]
    assert found[0].score > 0
    assert found[0].meta["author"] == {"name": "bread"}


def test_no_documents_are_not_the_usual_number_of_them(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "p.index", encoder=hash_encoder) as made:
        store = LLM2CompDocumentStore.of(made)
        store.write_documents(documents())
        with pytest.raises(UsageError, match=r"k must be at least 1, not 0"):
            LLM2CompRetriever(store, top_k=2).run("yeast", top_k=0)


def test_a_store_makes_its_collection(tmp_path, hash_encoder, monkeypatch):
    monkeypatch.setattr("llm2comp_apps.retrieval.creation.load_encoder", lambda *_, **__: hash_encoder, raising=False)
    store = LLM2CompDocumentStore(tmp_path / "new.index", settings={"chunk": 4})
    again = LLM2CompDocumentStore.from_dict(store.to_dict())
    assert (again.path, again.settings) == (str(tmp_path / "new.index"), {"chunk": 4})


def test_embedders(hash_encoder, monkeypatch):
    monkeypatch.setattr(ours, "load_encoder", lambda name, device=None: hash_encoder)
    asked = LLM2CompTextEmbedder().run("cells")["embedding"]
    assert asked == hash_encoder.encode(["cells"], prompt="find: ")[0].tolist()
    given = documents()
    made = LLM2CompDocumentEmbedder().run(given)["documents"]
    assert made[1].embedding == hash_encoder.encode([given[1].content])[0].tolist()
    assert given[1].embedding is None
    assert LLM2CompDocumentEmbedder().run([])["documents"] == []
    with pytest.raises(TypeError):
        LLM2CompTextEmbedder().run(given)
    with pytest.raises(TypeError):
        LLM2CompDocumentEmbedder().run("cells")


def test_meta_and_ids_that_are_none(document_store):
    assert document_store.write_documents([Document(id="a", content="a text", meta=None)]) == 1
    assert [one.meta for one in document_store.filter_documents()] == [{}]
    with pytest.raises(CorpusError, match=r"document 3 cannot be stored: its id must be text, not 3"):
        document_store.write_documents([Document(id=3, content="a text")])


def test_a_store_is_pickled_and_copied(document_store):
    document_store.write_documents(documents())
    for again in (pickle.loads(pickle.dumps(document_store)), copy.deepcopy(document_store)):
        assert again.count_documents() == 3
        assert LLM2CompRetriever(again, top_k=1).run("yeast")["documents"][0].id == "bread"


def test_threads_write_one_after_another(tmp_path, slow_encoder):
    store = LLM2CompDocumentStore(tmp_path / "t.index", encoder=slow_encoder)

    def write(place):
        try:
            return store.write_documents([Document(id=f"{place % 3}", content=f"text {place}")])
        except DuplicateDocumentError:
            return 0

    with ThreadPoolExecutor(4) as threads:
        written = list(threads.map(write, range(6)))
    assert sum(written) == store.count_documents() == 3
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda id_: store.delete_documents([id_]), "012"))
    assert store.count_documents() == 0
