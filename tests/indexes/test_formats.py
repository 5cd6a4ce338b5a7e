"""Formats: what older versions wrote is read and migrated, what newer ones write is refused by name.

``golden/format-N.zip`` was made by ``python workload.py DIRECTORY --everything`` when N was the newest format.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from llm2comp_indexes import Index, IndexFormatError
from llm2comp_indexes.storage import schema

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
        assert index.info().format == schema.FORMAT
        assert workload.contents(index) == state
        assert index.verify() == []
        assert index.info().kind == "SQ8"
        with index.writer() as writer:
            writer.delete(["a1"])
            writer.add([workload.document("new", 5)], *workload.vectors([workload.document("new", 5)]))
            writer.commit()
        assert workload.contents(index) == {name: v for name, v in state.items() if name != "a1"} | {"new": 5}


def test_there_is_a_golden_fixture_of_every_format():
    assert sorted(path.name for path in GOLDEN.iterdir()) == [f"format-{v}.zip" for v in range(1, schema.FORMAT + 1)]
    assert set(schema.MIGRATIONS) == set(range(1, schema.FORMAT))


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
    monkeypatch.setitem(schema.MIGRATIONS, newest, add_a_column)
    monkeypatch.setitem(schema.MIGRATIONS, newest + 1, lambda connection: None)
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

    monkeypatch.setattr(schema, "FORMAT", schema.FORMAT + 1)
    monkeypatch.setitem(schema.MIGRATIONS, schema.FORMAT - 1, fail)
    with pytest.raises(ValueError, match="stop"):
        Index.open(path)
    monkeypatch.undo()
    with Index.open(path) as index:
        assert index.verify() == []


def test_a_newer_format_is_refused_for_writing_too(make_index, monkeypatch):
    index = make_index()
    monkeypatch.setattr(schema, "FORMAT", 0)
    with pytest.raises(IndexFormatError, match="upgrade llm2comp-apps"), index.writer():
        pass
