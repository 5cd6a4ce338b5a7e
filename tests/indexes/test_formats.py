"""Formats: what older versions wrote is read and migrated, what newer ones write is refused by name.

``golden/format-N.zip`` was made by ``python workload.py DIRECTORY --everything`` when N was the newest format, with
several segments, tombstones and a FAISS index. ``golden/searched-N.zip`` was made by ``python searched.py FILE``, and
has beside an index what it answered then: hybrid search joins these two lists and no more.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llm2comp_indexes import Index, IndexFormatError
from llm2comp_indexes.storage import schema

pytestmark = pytest.mark.filterwarnings("ignore::llm2comp_indexes.errors.OutdatedWarning")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden(fast_path):
    def unpack(version: int) -> Path:
        with zipfile.ZipFile(GOLDEN / f"format-{version}.zip") as archive:
            archive.extractall(fast_path / "golden")
        return fast_path / "golden"

    return unpack


@pytest.mark.parametrize("version", range(1, schema.FORMAT + 1))
def test_every_format_that_was_ever_written_is_read(golden, workload, fast_path, version):
    path = golden(version)
    state = workload.everything(fast_path / "new")
    with Index.open(path) as index:
        assert index.info().format == version
        assert workload.contents(index) == state
        assert index.verify() == []
        assert index.info().kind == "SQ8"
        with index.writer() as writer:
            writer.delete(["a1"])
            writer.add([workload.document("new", 5)], *workload.vectors([workload.document("new", 5)]))
            writer.commit()
        assert workload.contents(index) == {name: v for name, v in state.items() if name != "a1"} | {"new": 5}


@pytest.mark.parametrize("version", range(1, schema.FORMAT + 1))
def test_an_old_index_answers_as_it_did(searched, fast_path, version):
    with zipfile.ZipFile(GOLDEN / f"searched-{version}.zip") as archive:
        archive.extractall(fast_path)
    told = json.loads((fast_path / "answers.json").read_text("utf-8"))
    with Index.open(fast_path / "searched.index") as index:
        assert index.verify() == []
        same(searched.answers(index), told)
        new = searched.document(99)
        with index.writer() as writer:
            writer.add([new], *searched.encoded([new]))
            writer.commit()
        assert index.get(["doc-99"]) == [new]
        assert list(index.ids()) == [*told["ids"], "doc-99"]
        with index.writer() as writer:
            writer.delete(["doc-99"])
            writer.commit()
        index.compact()  # after which BM25 no longer counts deleted documents
        assert index.verify() == []
        compacted = searched.answers(index)
    same(compacted, told | {name: compacted[name] for name in told if name.startswith("lexical")})
    searched.make(fast_path / "new.index")
    with Index.open(fast_path / "new.index") as new_index:
        new_index.compact()
        same(searched.answers(new_index), compacted, memory=0.02)  # which may be stored in another form


def same(answers: dict[str, Any], told: dict[str, Any], *, memory: float = 0.0) -> None:
    """The same ids in the same order, and scores up to the rounding of another machine; memory within a bound."""
    assert answers.keys() == told.keys()
    assert [hits for name in told if name.startswith("lexical") for hits in told[name] if hits]
    for name, expected in told.items():
        if name.startswith(("dense", "lexical")):
            for hits, others in zip(answers[name], expected, strict=True):
                assert [(id_, span) for id_, _, span in hits] == [(id_, span) for id_, _, span in others]
                np.testing.assert_allclose([hit[1] for hit in hits], [hit[1] for hit in others], rtol=1e-5, atol=1e-6)
        elif name in ("memory", "vectors"):
            np.testing.assert_allclose(answers[name], expected, atol=memory if name == "memory" else 0.0)
        else:
            assert answers[name] == expected, name


def test_there_is_a_golden_fixture_of_every_format():
    versions = range(1, schema.FORMAT + 1)
    names = [f"{kind}-{version}.zip" for kind in ("format", "searched") for version in versions]
    assert sorted(path.name for path in GOLDEN.iterdir()) == names
    assert set(schema.MIGRATIONS) == set(range(1, schema.OLDEST))


def test_an_older_format_is_migrated_on_opening(golden, workload, monkeypatch):
    path = golden(1)
    before = Index.open(path)
    state = workload.contents(before)
    before.close()
    newest = schema.FORMAT

    def add_a_column(connection) -> None:
        connection.execute("ALTER TABLE documents ADD COLUMN extra TEXT")
        connection.execute("ALTER TABLE documents DROP COLUMN extra")

    monkeypatch.setattr(schema, "FORMAT", newest + 2)
    monkeypatch.setattr(schema, "OLDEST", newest + 2)
    monkeypatch.setitem(schema.MIGRATIONS, 1, add_a_column)
    for version in range(2, newest + 2):
        monkeypatch.setitem(schema.MIGRATIONS, version, lambda connection: None)
    with Index.open(path) as index:
        assert index.info().format == newest + 2
        assert workload.contents(index) == state
        assert index.verify() == []
    monkeypatch.setattr(schema, "FORMAT", newest)
    with pytest.raises(IndexFormatError, match=f"index format {newest + 2} is newer than this version reads"):
        Index.open(path)


def test_a_migration_that_fails_leaves_the_old_format(golden, monkeypatch):
    path = golden(1)

    def fail(connection) -> None:
        connection.execute("DROP TABLE texts")
        raise ValueError("stop")

    monkeypatch.setattr(schema, "OLDEST", 2)
    monkeypatch.setitem(schema.MIGRATIONS, 1, fail)
    with pytest.raises(ValueError, match="stop"):
        Index.open(path)
    monkeypatch.undo()
    with Index.open(path) as index:
        assert index.verify() == []


def test_only_an_index_with_memory_vectors_has_the_format_that_older_versions_refuse(make_index):
    assert [make_index(name, memory_tokens=k).info().format for name, k in (("plain", 0), ("memory", 2))] == [1, 2]


def test_a_newer_format_is_refused_for_writing_too(make_index, monkeypatch):
    index = make_index()
    monkeypatch.setattr(schema, "FORMAT", 0)
    with pytest.raises(IndexFormatError, match="upgrade llm2comp-apps"), index.writer():
        pass
