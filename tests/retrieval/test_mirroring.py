"""A collection as the mirror of a corpus: what cannot be read is not taken for gone."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from llm2comp_apps import Collection, Document, read_corpus
from llm2comp_apps.corpus import CorpusOptions, ReadReport
from llm2comp_apps.retrieval.mirroring import mirror

ROWS = [{"_id": f"row{number}", "text": f"Row {number}."} for number in range(3)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)
PACKED = gzip.compress(JSONL.encode(), mtime=0)
OURS = {"notes/0.md", "notes/1.md", "notes/2.md", "notes/3.md", "notes/4.md", "notes/5.md"}
THEIRS = {row["_id"] for row in ROWS}


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    for number in range(6):
        (folder / f"{number}.md").write_text(f"Note {number}.")
    return folder


@pytest.fixture
def build(tmp_path, hash_encoder, notes):
    """Brings the index up to date; the warnings, and the ids that it holds."""
    with Collection.create(tmp_path / "notes.index", encoder=hash_encoder) as library:

        def run(**settings):
            reading = ReadReport()
            documents = read_corpus([notes], CorpusOptions(**settings), reading)
            report = mirror(library, documents, reading, prune=True)
            return report.warnings, set(library.index.ids())

        yield run


def refusing(function, place: Path, after: int = 0):
    """The function, which may not touch a place, at least not more than so many times."""
    times = 0

    def refused(path, *arguments, **keywords):
        nonlocal times
        times += str(path) == str(place)
        if str(path) == str(place) and times > after:
            raise PermissionError(13, "Permission denied", str(path))
        return function(path, *arguments, **keywords)

    return refused


@pytest.mark.parametrize(
    ("name", "whole", "left"),
    [
        ("rows.jsonl.gz", PACKED, PACKED[:12]),
        ("rows.jsonl", JSONL.encode(), bytes(200)),
        ("rows.jsonl", JSONL.encode(), b'{"_id": "row0", "te'),
        ("rows.jsonl", JSONL.encode(), b'{"level": "info"}\n{"_id": "row0", "te'),
        ("rows.json", json.dumps(ROWS).encode(), b'[{"_id": "row0", "te'),
        ("rows.csv", b"_id,text\nrow0,a\nrow1,b\nrow2,c\n", b""),
    ],
    ids=["packed", "zeros", "cut", "cut corpus of logs", "array", "empty table"],
)
def test_what_a_damaged_file_of_records_held_stays(build, notes, name, whole, left) -> None:
    (notes / name).write_bytes(whole)
    assert build()[1] == OURS | THEIRS
    (notes / name).write_bytes(left)
    (notes / "0.md").unlink()  # may be a record of that file by now, for all that anybody can tell
    (warning,), ids = build()
    assert warning == f"{notes / name} could not be read, and may hold what seems to be gone: no document is removed"
    assert ids == OURS | THEIRS
    (notes / name).write_bytes(whole)
    assert build() == ([], OURS - {"notes/0.md"} | THEIRS)


@pytest.mark.parametrize(("name", "settings"), [("rows.jsonl", {}), ("sub/rows", {"format": "lines"})])
def test_a_file_of_records_that_cannot_be_opened(build, notes, monkeypatch, name, settings) -> None:
    (notes / name).write_text(JSONL)
    before = build(**settings)[1]
    monkeypatch.setattr(Path, "open", refusing(Path.open, notes / name))
    (warning,), ids = build(**settings)
    assert "may hold what seems to be gone" in warning
    assert ids == before


@pytest.mark.parametrize("after", [0, 1])
def test_what_a_folder_that_cannot_be_read_held_stays(build, notes, monkeypatch, after) -> None:
    """Whether it is noticed before the first document is read or hours later."""
    (notes / "sub" / "rows.jsonl").write_text(JSONL)
    assert build()[1] == OURS | THEIRS
    monkeypatch.setattr(os, "scandir", refusing(os.scandir, notes / "sub", after))
    (warning,), ids = build()
    assert warning.startswith(f"{notes / 'sub'} could not be read")
    assert ids == OURS | THEIRS


def test_more_unreadable_files_than_a_report_remembers(build, notes, monkeypatch) -> None:
    assert build()[1] == OURS
    monkeypatch.setattr("llm2comp_apps.corpus.report._MAX_FILES", 1)
    for number in (3, 5):
        (notes / f"{number}.md").write_bytes(b"caf\xe9")
    (warning,), ids = build()
    assert warning == "too many files could not be read to remember them all: no document is removed"
    assert ids == OURS


def test_files_that_are_no_corpus_hold_nothing_back(build, notes) -> None:
    (notes / "package.json").write_text('{"name": "x", "scripts": {"test": "jest"}}')
    (notes / "log.jsonl").write_text('{"level": "info"}\n' * 200)
    (notes / "bank.csv").write_text("date,amount\n2024-01-01,5\n")
    assert build()[1] == OURS
    (notes / "0.md").unlink()
    (notes / "5.md").write_bytes(b"caf\xe9")
    assert build() == ([], OURS - {"notes/0.md"})


@pytest.mark.parametrize("times", [1, 2, 7])
def test_a_document_that_comes_more_than_once_stands_for_no_other(tmp_path, hash_encoder, times) -> None:
    documents = [Document(f"d{number}", f"Text {number}.") for number in range(3)]
    with Collection.create(tmp_path / "x.index", encoder=hash_encoder) as library:
        library.update(documents)
        report = mirror(library, documents[:2] * times, prune=True)
        assert (report.removed, report.other_ids, list(library.index.ids())) == (1, ["d2"], ["d0", "d1"])
