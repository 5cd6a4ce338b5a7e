"""The front door as a library: what is built, found, changed and refused, without a terminal."""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
import threading
from itertools import chain

import numpy as np
import pytest
from llm2comp_indexes import FilterError, Index

import llm2comp_apps
from llm2comp_apps import Collection, CorpusError, Document, EncoderError, UsageError, read_corpus
from llm2comp_apps.retrieval.build import CommitRule
from llm2comp_apps.retrieval.removal import MostDocumentsError

TOPICS = {
    "cells": "Cells divide by mitosis. Before a cell divides it copies its chromosomes.",
    "stars": "Stars are born in clouds of gas. A star burns hydrogen for most of its life.",
    "bread": "Bread rises because yeast makes gas. The dough rests before it is baked.",
    "ships": "Ships float because they displace water. A ship sinks when it takes in too much of it.",
}


def documents(count=8, **changes):
    found = []
    for number in range(count):
        topic = list(TOPICS)[number % len(TOPICS)]
        text = changes.get(f"{topic}_{number}", f"{TOPICS[topic]} Note {number}.")
        found.append(Document(f"{topic}-{number}", text, topic.title(), {"year": 1988 + number}))
    return found


@pytest.fixture
def library(tmp_path, hash_encoder):
    """A collection of eight documents."""
    with Collection.create(tmp_path / "library.index", encoder=hash_encoder, memory=True) as made:
        made.update(documents())
        yield made


def ids(hits):
    return [hit.id for hit in hits]


def test_the_script_of_the_first_page(tmp_path, monkeypatch, make_hash_encoder, capsys):
    """Everything that people do, under the names that they are told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, device=None: make_hash_encoder())
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(20):
        (notes / f"doc-{number}.txt").write_text(f"Notes on how cells divide, number {number}. " * 30)
    with Collection.create("library.index", encoder="default", chunk=256) as library:
        report = library.update(read_corpus(["notes/"]), on_progress=print)
        hits = library.search("how do cells divide", k=5, rerank="memory")
        near = library.similar("notes/doc-17.txt", k=5)
    assert (report.added, report.warnings, len(hits), len(near)) == (20, [], 5, 5)
    assert capsys.readouterr().out.splitlines()[-1] == "20 documents encoded, 0 unchanged"


def test_the_package_exports_what_it_says_in_order_and_loads_it_late():
    listed = llm2comp_apps.__all__
    assert listed == sorted(listed)
    assert {"Collection", "LLM2Comp", "load_encoder", "read_corpus", "Document", "SearchHit", "UsageError"} <= {*listed}
    assert all(getattr(llm2comp_apps, name) is not None for name in listed)
    assert dir(llm2comp_apps) == listed
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = llm2comp_apps.Nothing


def test_importing_the_front_door_is_quick_and_loads_nothing_heavy(tmp_path):
    """Under .3 s of CPU where torch takes 1.5; on a slower processor as much longer as torch does."""
    door = "from llm2comp_apps import Collection, load_encoder, read_corpus"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = {**kept, "PYTHONPYCACHEPREFIX": str(tmp_path), "OMP_NUM_THREADS": "1"}  # compiled once, as installed
    rounds = [[_seconds_of(code, environment) for code in (door, "import torch")] for _ in range(4)]
    ours, torchs = (min(spent) for spent in zip(*rounds, strict=True))
    assert ours < torchs / 5
    listing = f"import sys; before = {{*sys.modules}}; {door}; print(*({{*sys.modules}} - before))"
    loaded = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True).stdout.split()
    packages = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert packages <= {"llm2comp_apps", "llm2comp_indexes", "numpy", "apsw"}


def _seconds_of(code: str, environment: dict[str, str]) -> float:
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_update_skips_what_is_unchanged_and_replaces_what_is_not(library, hash_encoder):
    calls = hash_encoder.calls
    report = library.update(documents(9, stars_1="Stars are far away."))
    assert (report.read, report.added, report.unchanged, report.interrupted) == (9, 2, 7, False)
    assert hash_encoder.calls == calls + 2
    assert len(library) == 9
    assert ids(library.search("far away", k=1)) == ["stars-1"]


@pytest.mark.parametrize("how", ["should_stop", "ctrl-C", "a broken document"])
def test_an_interruption_keeps_what_was_done_and_the_next_update_does_the_rest(
    tmp_path, hash_encoder, monkeypatch, how
):
    monkeypatch.setattr("llm2comp_apps.retrieval.build._WINDOW_DOCUMENTS", 4)
    monkeypatch.setattr("llm2comp_apps.retrieval.build._LOOKUP", 2)
    library = Collection.create(tmp_path / "x.index", encoder=hash_encoder)
    rule = CommitRule(seconds=1e9)

    def stream():
        yield from documents(6)
        if how == "ctrl-C":
            raise KeyboardInterrupt
        if how == "a broken document":
            raise ValueError
        yield from documents(12)[6:]

    if how == "should_stop":
        report = library.update(stream(), rule=rule, should_stop=lambda: True)
        assert (report.interrupted, report.added, report.commits) == (True, 4, 1)
    else:
        with pytest.raises(KeyboardInterrupt if how == "ctrl-C" else ValueError):
            library.update(stream(), rule=rule)
    assert len(Index.open(library.path)) == 4
    assert library.update(documents(12), rule=rule).added == 8
    assert library.verify() == []


def test_an_interruption_inside_a_write_commits_nothing_of_it(tmp_path, hash_encoder, monkeypatch):
    from llm2comp_indexes import Writer

    library = Collection.create(tmp_path / "x.index", encoder=hash_encoder)
    library.update(documents(4))
    add = Writer.add

    def interrupted(*arguments, **options):
        add(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        library.update(documents(8))
    assert (len(library), library.verify()) == (4, [])


def test_a_search_by_words_never_loads_the_encoder(library, monkeypatch):
    def fail(name, device=None):
        raise EncoderError("no encoder here")

    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", fail)
    with Collection.open(library.path, encoder="gone") as opened:
        assert ids(opened.search("hydrogen", mode="lexical", k=1))[0].startswith("stars")
        assert len(opened.similar("stars-1", k=3)) == 3
        with pytest.raises(EncoderError, match="no encoder here"):
            opened.search("hydrogen")


def test_a_collection_remembers_the_name_of_its_encoder(tmp_path, monkeypatch, make_hash_encoder):
    loaded = []

    def load(name, device=None):
        loaded.append((name, device))
        return make_hash_encoder()

    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", load)
    Collection.create(tmp_path / "x.index", encoder="default", device="cpu").update(documents(4))
    with Collection.open(tmp_path / "x.index") as opened:
        assert ids(opened.search("hydrogen", k=1)) == ["stars-1"]
        opened.search("cells")
    assert loaded == [("default", "cpu"), ("default", None)]


def test_an_encoder_of_other_vectors_is_refused(library, make_hash_encoder):
    opened = Collection.open(library.path, encoder=make_hash_encoder(seed="other"))
    with pytest.raises(EncoderError, match=r"built with the encoder hash .* not with hashother"):
        opened.search("cells")


def test_the_index_of_the_surroundings_is_found(library, hash_encoder, monkeypatch):
    monkeypatch.delenv("LLM2COMP_INDEX", raising=False)
    monkeypatch.chdir(library.path.parent)
    assert Collection.open().path.name == "library.index"
    with pytest.raises(UsageError, match="no index at nothing"):
        Collection.open("nothing")


def test_a_batch_answers_as_single_searches_do(library):
    queries = ["how do cells divide", "hydrogen", "why do ships float"]
    for settings in ({}, {"mode": "dense", "k": 3}, {"mode": "lexical"}, {"rerank": "memory", "where": "year > 1990"}):
        batch = library.search_batch(queries, **settings)
        single = [library.search(query, **settings) for query in queries]
        assert all(batch)
        assert [ids(hits) for hits in batch] == [ids(hits) for hits in single]
        for one, other in zip(chain(*batch), chain(*single), strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)
            assert (one.rank, one.span, one.snippet) == (other.rank, other.span, other.snippet)


def test_conditions_keep_documents_out(library):
    hits = library.search("how do cells divide", where="year >= 1992")
    assert "cells-4" in ids(hits)
    assert "cells-0" not in ids(hits)


def test_stored_memory_vectors_rerank_as_fresh_ones_do(library, tmp_path, hash_encoder):
    with Collection.create(tmp_path / "plain.index", encoder=hash_encoder) as plain:
        plain.update(documents())
        stored, fresh = (each.search("a star burns gas", rerank="memory", k=4) for each in (library, plain))
    assert ids(stored) == ids(fresh)
    assert [hit.score for hit in stored] == pytest.approx([hit.score for hit in fresh], abs=2e-3)


def test_any_reranker_will_do(library):
    class Longest:
        def score(self, query, passages):
            return np.array([len(passage.text) for passage in passages], np.float32)

    hits = library.search("gas", rerank=Longest())
    assert [hit.score for hit in hits] == sorted((float(len(hit.text)) for hit in hits), reverse=True)


def test_similar_documents_leave_out_the_document_itself(library):
    hits = library.similar("cells-0", k=3)
    assert len(hits) == 3
    assert hits[0].id == "cells-4"
    assert "cells-0" not in ids(hits)
    assert hits[0].rank == 1
    assert ids(library.similar("cells-0", k=3, where="year < 1992")) != ids(hits)
    assert "cells-4" not in ids(library.similar("cells-0", where="year < 1992"))
    assert len(library.similar("cells-0", k=100)) == 7


def test_chunked_documents_are_as_near_as_their_nearest_chunks(tmp_path, hash_encoder):
    def long(*topics):
        return " ".join(f"{TOPICS[topic]} {TOPICS[topic]}" for topic in topics)

    corpus = [
        Document("one", long("bread", "cells")),
        Document("two", long("stars", "cells", "stars")),
        Document("three", long("ships")),
    ]
    with Collection.create(tmp_path / "x.index", encoder=hash_encoder, chunk=16) as chunked:
        chunked.update(corpus)
        first, second = chunked.similar("one")
    assert (first.id, second.id) == ("two", "three")
    assert "ells divide" in first.text[slice(*first.span)]


def test_documents_come_back_as_they_went_in(library):
    assert sorted(library.documents(), key=lambda document: document.id) == sorted(documents(), key=lambda d: d.id)
    assert {document.id for document in library.documents(where="year < 1990")} == {"cells-0", "stars-1"}


def test_the_vector_of_a_query_is_that_of_its_search(library):
    vector = library.encode_query("how do cells divide")
    assert vector.shape == (32,)
    assert [hit.id for hit in library.index.search(vector, 3)[0]] == ids(
        library.search("how do cells divide", mode="dense", k=3)
    )


def test_delete_counts_what_went_and_what_was_not_there(library):
    report = library.delete(["cells-0", "nobody", "cells-0"], where="year = 1989")
    assert (report.deleted, report.missing, report.warnings) == (2, 1, [])
    assert len(library) == 6
    assert not library.search("far", mode="lexical", where="year < 1990")


def test_one_text_is_no_list_of_letters(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "letters.index", encoder=hash_encoder) as library:
        library.update([Document(name, f"Cells divide: {name}.") for name in ("1", "7", "17")])
        with pytest.raises(UsageError, match=r"ids must be a list, not one text; write \['17'\]"):
            library.delete("17")
        assert {each.id for each in library.documents()} == {"1", "7", "17"}
        with pytest.raises(UsageError, match=r"queries must be a list, not one text; write \['cells'\]"):
            library.search_batch("cells")
        with pytest.raises(UsageError, match=r"facets must be a list, not one text; write \['year'\]"):
            library.searcher().page("cells", facets="year")
        assert [len(hits) for hits in library.search_batch(query for query in ("cells", "divide"))] == [3, 3]
        assert library.delete(each.id for each in library.documents() if each.id != "7").deleted == 2


@pytest.mark.parametrize(
    ("ask", "line"),
    [
        (lambda library: library.search("cells", k=2.5), "k must be a whole number, not 2.5"),
        (lambda library: library.search("cells", k="5"), "k must be a whole number, not '5'"),
        (lambda library: library.search("cells", rerank_depth=1.5), "rerank_depth must be a whole number, not 1.5"),
        (lambda library: library.similar("cells-0", k=None), "k must be a whole number, not None"),
        (lambda library: library.similar(["cells-0"]), "id must be text, not ['cells-0']"),
        (lambda library: library.searcher().page("cells", offset=1.5), "offset must be a whole number, not 1.5"),
        (lambda library: library.search(None), "query must be text, not None"),
        (lambda library: library.search_batch(["cells", 5]), "query must be text, not 5"),
        (lambda library: library.search("cells", where=5), "where must be text, not 5"),
        (lambda library: library.delete([5]), "ids must be text, not 5"),
        (lambda library: library.delete(where=5), "where must be text, not 5"),
        (lambda library: library.delete(5), "ids must be a list, not 5"),
        (lambda library: library.search("cells", alpha="0.5"), "alpha must be a number, not '0.5'"),
        (lambda library: library.search("cells", rerank_ms="5"), "rerank_ms must be a number, not '5'"),
        (lambda library: library.search("cells", rerank=5), "rerank must be a reranker or the name of one, not 5"),
        (lambda library: library.update(["cells"]), "documents must each be a Document(id, text), not 'cells'"),
        (lambda library: library.update(5), "documents must be a list, not 5"),
        (lambda library: library.searcher().page("cells", facets=5), "facets must be a list, not 5"),
        (lambda library: library.searcher().page("cells", facets=[5]), "facets must be text, not 5"),
        (
            lambda library: library.searcher().page("cells", vector=[1.0, 2.0]),
            "vector must be a vector of 32 numbers, not of the shape (2,)",
        ),
        (
            lambda library: library.searcher().page("cells", vector="abc"),
            "vector must be a vector of 32 numbers, not 'abc'",
        ),
        (
            lambda library: library.searcher().page("cells", vector=[float("nan")] * 32),
            "vector must be of finite numbers",
        ),
    ],
)
def test_what_is_no_text_and_no_number_is_named(library, ask, line):
    with pytest.raises(UsageError) as refused:
        ask(library)
    assert str(refused.value) == line
    assert len(library.search("cells", k=np.int64(3))) == 3


@pytest.mark.parametrize("where", [5, ["year > 1990"], {}])
def test_a_condition_that_is_no_text_is_named(library, where):
    with pytest.raises(FilterError, match=f"^{re.escape(f'where must be text, not {where!r}')}$"):
        list(library.documents(where=where))


def test_the_vector_of_a_query_may_be_a_list_of_numbers(library, hash_encoder):
    (vector,) = hash_encoder.encode(["cells divide"])
    searcher = library.searcher()
    pages = [searcher.page("", vector=given, mode="dense") for given in (vector, vector.tolist(), tuple(vector))]
    assert pages[0].ids == pages[1].ids == pages[2].ids
    assert [hit.score for hit in pages[0].hits] == pytest.approx([hit.score for hit in pages[1].hits])


@pytest.mark.parametrize(
    ("arguments", "error", "field"),
    [
        ({}, UsageError, None),
        ({"where": "year > 1989"}, MostDocumentsError, "where"),
        ({"where": "yaer > 2000"}, UsageError, "where"),
        ({"ids": ["\udcff"]}, UsageError, "ids"),
    ],
)
def test_delete_refuses_what_is_most_likely_a_slip(library, arguments, error, field):
    with pytest.raises(error) as refused:
        library.delete(**arguments)
    assert refused.value.field == field
    assert len(library) == 8


def test_most_documents_go_if_that_is_meant(library):
    assert library.delete(where="year > 1989", allow_most=True).deleted == 6


def test_compact_verify_info_and_export(library, tmp_path):
    library.delete(["cells-0"])
    facts = library.compact(kind="sq8")
    assert (facts.documents, facts.deleted, facts.settings["kind"]) == (7, 0, "sq8")
    assert library.info() == facts
    assert library.compact().settings["kind"] == "sq8"
    assert library.verify() == []
    assert library.export(tmp_path / "all.npy") == 7
    assert np.load(tmp_path / "all.npy").shape == (7, 32)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"chunk": 3}, "chunk"),
        ({"overlap": 3}, "overlap"),
        ({"language": "klingon"}, "language"),
        ({"target_recall": 2.0}, "target_recall"),
    ],
)
def test_a_wrong_setting_is_named_and_leaves_nothing_behind(tmp_path, hash_encoder, settings, field):
    with pytest.raises(UsageError) as refused:
        Collection.create(tmp_path / "x.index", encoder=hash_encoder, **settings)
    assert refused.value.field == field
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"k": 0}, "k"),
        ({"mode": "sparse"}, "mode"),
        ({"fusion": "sum"}, "fusion"),
        ({"rerank_depth": 0}, "rerank_depth"),
        ({"query": " "}, "query"),
    ],
)
def test_a_wrong_search_names_its_setting(library, settings, field):
    with pytest.raises(UsageError) as refused:
        library.search(**{"query": "cells", **settings})
    assert refused.value.field == field


def test_similar_names_its_setting_too(library):
    for arguments, field in (({"id": "nobody"}, "id"), ({"id": "cells-0", "k": 0}, "k")):
        with pytest.raises(UsageError) as refused:
            library.similar(**arguments)
        assert refused.value.field == field


def test_documents_are_those_of_one_generation_whatever_is_committed_meanwhile(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "x.index", encoder=hash_encoder) as library:
        library.update(Document(f"d{n}", f"text {n}") for n in range(600))
        stream = library.documents()
        first = next(stream)
        library.delete([f"d{n}" for n in range(500, 600)])
        assert len(library) == 500
        assert {first.id, *(document.id for document in stream)} == {f"d{n}" for n in range(600)}


def test_a_condition_deletes_what_meets_it_now_and_not_what_did(library, hash_encoder):
    """Another program has changed the documents since this one looked."""
    with Collection.open(library.path, encoder=hash_encoder) as other:
        other.update([Document("cells-0", "Cells, in a newer text.", "Cells", {"year": 2026})])
        other.update([Document("late", "A late text.", "", {"year": 1988})])
    assert library.delete(where="year = 1988").deleted == 1
    left = {document.id for document in library.documents()}
    assert "cells-0" in left
    assert "late" not in left


def test_a_block_that_fails_before_anything_was_added_leaves_its_place_free(tmp_path, hash_encoder):
    path = tmp_path / "new.index"
    with pytest.raises(CorpusError, match=r"no-such"), Collection.create(path, encoder=hash_encoder) as made:
        made.update(read_corpus([str(tmp_path / "no-such")]))
    assert list(tmp_path.iterdir()) == []

    def fill_by_another_and_fail():
        with Collection.create(path, encoder=hash_encoder):
            with Collection.open(path, encoder=hash_encoder) as other:
                other.update(documents())
            raise ZeroDivisionError

    def empty_and_fail():
        with Collection.open(path, encoder=hash_encoder) as opened:
            opened.delete(where="year > 0", allow_most=True)
            raise ZeroDivisionError

    for fail, left in ((fill_by_another_and_fail, 8), (empty_and_fail, 0)):  # no document is lost, nor what was there
        with pytest.raises(ZeroDivisionError):
            fail()
        with Collection.open(path) as opened:
            assert len(opened) == left


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (Document(3, "cells"), "document 3 cannot be stored: its id must be text, not 3"),
        (Document(np.int64(3), "cells"), "document np.int64(3) cannot be stored: its id must be text, not np.int64(3)"),
        (Document("", "cells", source="a.csv:2"), "a.csv:2: document '' cannot be stored: its id is empty"),
        (Document("x", None), "document 'x' cannot be stored: its text must be text, not None"),
        (Document("x", "cells", 5), "document 'x' cannot be stored: its title must be text, not 5"),
        (Document("x", "cells", metadata=None), "'x' cannot be stored: its metadata must be a dictionary, not None"),
    ],
)
def test_a_document_of_wrong_parts_is_named(library, document, line):
    with pytest.raises(CorpusError) as refused:
        library.update([document])
    assert str(refused.value).endswith(line)
    assert len(library) == 8


def test_a_collection_is_pickled_and_copied(library, tmp_path, make_hash_encoder, monkeypatch):
    with pickle.loads(pickle.dumps(library)) as again, copy.deepcopy(library) as copied:
        assert again.search("cells divide")[0].id == copied.search("cells divide")[0].id == "cells-0"
        assert copied.encoder is library.encoder
        library.delete(["cells-0"])
        assert (len(library), len(again), len(copied)) == (7, 8, 8)
        again.index.refresh()
        assert len(again) == 7
    stuck = make_hash_encoder()
    stuck.lock = threading.Lock()
    refusal = r"encoder cannot be pickled \(.*lock.*\); open the collection with its name"
    with Collection.create(tmp_path / "stuck.index", encoder=stuck) as made, pytest.raises(UsageError, match=refusal):
        pickle.dumps(made)
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, device=None: stuck)
    with Collection.create(tmp_path / "named.index", encoder="default") as made:
        assert pickle.loads(pickle.dumps(made)).path == made.path.absolute()  # its encoder stays a name
