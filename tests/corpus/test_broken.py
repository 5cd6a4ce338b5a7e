"""What the reader's docstring promises about files that are not as they should be."""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm2comp_apps.corpus import CorpusOptions, ReadReport, read_corpus
from llm2comp_apps.errors import CorpusError

GOOD = [f'{{"_id": "{i}", "text": "text {i}"}}' for i in range(4)]


def broken_file(form: str, bad: str | bytes) -> bytes:
    """A file whose third line is ``bad``, between good ones."""
    lines = [line.encode() for line in (GOOD if form == "jsonl" else [f"{i},text {i}" for i in range(4)])]
    lines.insert(2, bad.encode() if isinstance(bad, str) else bad)
    return b"\n".join(lines if form == "jsonl" else [b"_id,text", *lines]) + b"\n"


BROKEN_RECORDS = [
    ("jsonl", '{"_id": "x", "text": ', "not JSON: Expecting value at column"),
    ("jsonl", '{"_id": "x" "text": "y"}', "not JSON: Expecting ',' delimiter at column 13"),
    ("jsonl", '["x", "y"]', "not a JSON object but a list"),
    ("jsonl", "12", "not a JSON object but a number"),
    ("jsonl", '{"_id": "x", "text": 5}', "the field 'text' is a number, not a string"),
    ("jsonl", '{"_id": "x", "text": ["y"]}', "the field 'text' is a list, not a string"),
    ("jsonl", '{"_id": "x", "text": "y", "title": {"en": "t"}}', "the field 'title' is an object, not a string"),
    ("jsonl", '{"_id": true, "text": "y"}', "the field '_id' is true or false; an id is a string or an integer"),
    ("jsonl", '{"_id": 1.5, "text": "y"}', "the field '_id' is a number; an id is"),
    ("jsonl", '{"_id": "x", "txt": "y"}', "no text: looked for text or contents"),
    ("jsonl", '{"_id": "x", "text": "a\\u0000b"}', "a NUL character"),
    ("jsonl", '{"_id": "x", "text": "a\0b"}', "not JSON: Invalid control character"),
    ("jsonl", '{"_id": "x", "text": "a\\ud83d"}', "half a surrogate pair (\\ud83d)"),
    ("jsonl", '{"_id": "x", "text": "y", "meta": {"k": ["\\ude00"]}}', "half a surrogate pair (\\ude00)"),
    ("jsonl", b'{"_id": "x", "text": "caf\xe9"}', "byte 0xe9 is not valid utf-8 (`encoding` names another one)"),
    ("jsonl", '{"_id": "x", "text": "' + "y" * 1000 + '"}', "the line is longer than 500 characters"),
    ("jsonl", "[" * 100_000, "JSON that cannot be read"),
    ("jsonl", '{"_id": ' + "9" * 400 + ', "text": "y", "n": ' + "9" * 5000 + "}", "JSON that cannot be read"),
    ("jsonl", '{"_id": "0", "text": "other"}', "the id '0' already stands for another document, the one at "),
    ("jsonl", '{"_id": "0", "text": "text 0", "year": 5}', "the id '0' already stands for another document"),
    ("csv", "x,y,z", "3 cells where the header has 2"),
    ("csv", "x", "1 cells where the header has 2"),
    ("csv", b"x,caf\xe9", "byte 0xe9 is not valid utf-8"),
    ("csv", 'x,"y"z', "not a row of the table"),
]


@pytest.mark.parametrize(("form", "bad", "reason"), BROKEN_RECORDS, ids=[row[2][:40] for row in BROKEN_RECORDS])
def test_broken_record(form: str, bad: str | bytes, reason: str, write: Any, read: Any) -> None:
    path = write(f"corpus.{form}", broken_file(form, bad))
    line = 3 if form == "jsonl" else 4
    limit = 500 if reason.startswith("the line is longer") else 2**20
    with pytest.raises(CorpusError) as stopped:
        read(path, max_record_chars=limit)
    assert str(stopped.value).startswith(f"{path}:{line}: {reason}")
    assert "\n" not in str(stopped.value)

    documents, report = read(path, on_error="skip", max_record_chars=limit)
    assert [d.id for d in documents] == ["0", "1", "2", "3"]
    assert report.skipped == 1
    assert report.skipped_rows[0].place == f"{path}:{line}"
    assert report.skipped_rows[0].reason.startswith(reason)
    assert "1 broken" in report.summary()


def test_replacing_characters(write: Any, read: Any) -> None:
    lines = [b'{"text": "caf\xe9"}', b'{"text": "a\\u0000b \\ud83d"}', b'{"text": "c", "k\\udc00": ["\\ud800"]}']
    documents, _ = read(write("c.jsonl", b"\n".join(lines)), encoding_errors="replace")
    assert [d.text for d in documents] == ["caf�", "a�b �", "c"]
    assert documents[2].metadata == {"k�": ["�"]}


def test_neither_title_nor_text(write: Any, read: Any) -> None:
    lines = ['{"_id": "1", "text": ""}', '{"_id": "2", "title": " ", "text": "\\n"}', '{"_id": "3", "text": "x"}']
    documents, report = read(write("c.jsonl", "\n".join(lines)))
    assert [d.id for d in documents] == ["3"]
    assert report.empty == 2
    assert report.summary() == "1 document from 1 file; left out: 2 empty"


def test_same_document_again(write: Any, read: Any) -> None:
    first = write("a.jsonl", '{"_id": "1", "text": "x", "k": 1}\n{"text": "y"}\n')
    second = write("b.jsonl", '{"k": 1, "text": "x", "_id": "1"}\n{"text": "y"}\n{"text": "y", "k": 2}\n')
    documents, report = read(first, second)
    assert [d.text for d in documents] == ["x", "y"]
    assert report.duplicates == 3


def test_conflicting_ids_name_both_places(write: Any, read: Any) -> None:
    first, second = write("a.jsonl", '\n{"_id": "1", "text": "x"}\n'), write("b.csv", "_id,text\n1,y\n")
    with pytest.raises(CorpusError, match=f"{re.escape(second)}:2: the id '1' .* {re.escape(first)}:2"):
        read(first, second)


@pytest.mark.parametrize("ending", ["", "\n", '\n{"_id": "9", "text": "cut'])
def test_file_that_ends_mid_line(ending: str, write: Any, read: Any) -> None:
    path = write("c.jsonl", "\n".join(GOOD) + ending)
    documents, report = read(path, on_error="skip")
    assert len(documents) == len(GOOD)
    assert [str(row) for row in report.skipped_rows] == (
        [] if ending in ("", "\n") else
        [f"{path}:5: not JSON: Unterminated string at column 22 (the file ends in the middle of this line)"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ('[{"text": "a"},\n {"text": "b"}', 2, "expected ',', found 'the end of the file'"),
        (
            '[{"text": "a"},\n {"text": "b',
            2,
            "Unterminated string (the file ends in the middle of a value)",
        ),
        ('[{"text": "a"},\n {"text" "b"}]', 2, "Expecting ':' delimiter"),
        ('[{"text": "a"},\n\n {"text": "b"}] x', 3, "more data after the end of the JSON value"),
        ('{"a": "one",\n 5: "two"}', 2, "a key that is not a string"),
        ('{"a": "one",\n "b"}', 2, "expected ':', found '}'"),
        ("[" * 100_000, 1, "nested too deeply"),
        ('["a", ' + "9" * 5000 + "]", 1, "not JSON that can be read"),
    ],
)
def test_broken_json_file(content: str, line: int, reason: str, write: Any, read: Any) -> None:
    """There is no next line to go on with; what came before counts."""
    path = write("c.json", content)
    with pytest.raises(CorpusError) as stopped:
        read(path)
    assert str(stopped.value).startswith(f"{path}:{line}: ")
    assert reason in str(stopped.value)
    if "a" in content:
        documents, report = read(path, write("d.txt", "next file"), on_error="skip")
        assert documents[-1].text == "next file"
        assert len(documents) > 1
        assert report.skipped == 1


def test_wrong_values_in_a_json_array_can_be_passed_over(write: Any, read: Any) -> None:
    documents, report = read(write("c.json", '[{"text": "a"},\n 5,\n [],\n "b"]'), on_error="skip")
    assert [d.text for d in documents] == ["a", "b"]
    assert [row.reason for row in report.skipped_rows] == [
        "not a JSON object but a number",
        "not a JSON object but a list",
    ]
    assert [row.place[-2:] for row in report.skipped_rows] == [":2", ":3"]


def test_endless_json_value_does_not_fill_memory(write: Any, read: Any) -> None:
    path = write("c.json", '[{"text": "' + "x" * 300_000)
    with pytest.raises(CorpusError, match="no end of the record within 100000 characters"):
        read(path, max_record_chars=100_000)


def test_open_quote_swallows_no_rows_silently(write: Any, read: Any) -> None:
    rows = "".join(f"{i},text {i}\n" for i in range(5))
    path = write("c.csv", '_id,text\n0,a\n1,"open\n' + rows)
    documents, report = read(path, on_error="skip")
    assert [d.id for d in documents] == ["0"]
    assert report.skipped_rows[0].place == f"{path}:3"
    assert "a quote that opens on this line" in report.skipped_rows[0].reason


@pytest.mark.parametrize("header", ["", "\n", "text,text\n"])
def test_broken_header(header: str, write: Any, read: Any) -> None:
    with pytest.raises(CorpusError, match=r"c\.csv:1: (no header line|the header names 'text' twice)"):
        read(write("c.csv", header + "1,2\n" if header else ""))


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_cut_compression_keeps_what_came_before(packing: str, packers: Any, write: Any, read: Any) -> None:
    words = random.Random(0).choices([f"word{i}" for i in range(5000)], k=60_000)
    rows = [json.dumps({"_id": str(i), "text": " ".join(words[i * 20 : i * 20 + 20])}) for i in range(3000)]
    packed = packers[packing](("\n".join(rows) + "\n").encode())
    for length in (len(packed) // 2, len(packed) - 3):
        path = write(f"c.jsonl{packing}", packed[:length])
        with pytest.raises(CorpusError, match=r"cannot be read beyond this record: .*(ended|Truncated)"):
            read(path)
        documents, report = read(path, on_error="skip")
        assert report.skipped == 1
        assert 0 < len(documents) <= 3000
        assert [d.id for d in documents] == [str(i) for i in range(len(documents))]
    for content in (b"", packed[:3], packed[:10]):
        with pytest.raises(CorpusError):
            read(write(f"c.jsonl{packing}", content))


@pytest.mark.parametrize("packing", [".gz", ".zst"])
@given(position=st.integers(20, 10_000), flip=st.integers(1, 255))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_compression_never_goes_unnoticed(position: int, flip: int, packing: str, tmp_path: Path) -> None:
    """A checksummed file with a changed byte gives an error or, skipping, at most the documents before the damage."""
    rows = [json.dumps({"_id": str(i), "text": f"{random.Random(i).random()} and so on"}) for i in range(300)]
    data = ("\n".join(rows) + "\n").encode()
    checked = zstandard.ZstdCompressor(write_checksum=True)
    packed = bytearray(gzip.compress(data, mtime=0) if packing == ".gz" else checked.compress(data))
    packed[position % len(packed)] ^= flip
    path = tmp_path / f"c.jsonl{packing}"
    path.write_bytes(packed)
    try:
        documents = list(read_corpus([path]))
    except CorpusError:
        return
    assert [d.text for d in documents] == [json.loads(row)["text"] for row in rows]


def test_damaged_parquet(write: Any, read: Any, encoders: Any) -> None:
    good = encoders["parquet"]([{"_id": "1", "text": "x"}])
    for content in (b"PAR1", good[:-5], b"no parquet at all", b""):
        with pytest.raises(CorpusError, match=r"c\.parquet: not parquet that can be read"):
            read(write("c.parquet", content))


def test_unreadable_file(write: Any, read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("c.jsonl", GOOD[0])
    original = Path.open

    def refuse(self: Path, *arguments: Any, **keywords: Any) -> Any:
        if str(self) == path:
            raise PermissionError(13, "Permission denied", path)
        return original(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CorpusError, match=r"c\.jsonl: the file cannot be read: Permission denied"):
        read(path)


@pytest.mark.parametrize("source", ["", "*.txt"])
def test_an_entry_of_which_nobody_can_tell_what_it_is(tmp_path: Path, source: str) -> None:
    """A link whose target has too long a name; a folder that may be listed and not entered is full of such entries."""
    (tmp_path / "a.txt").write_text("fine")
    (tmp_path / "b.txt").symlink_to("x" * 300)
    report = ReadReport()
    documents = list(read_corpus([tmp_path / source], CorpusOptions(on_error="skip"), report))
    assert [document.text for document in documents] == ["fine"]
    assert [each.path for each in report.passed_over] == [str(tmp_path / "b.txt")]
    with pytest.raises(CorpusError, match=r"b\.txt: the file cannot be read: File name too long"):
        list(read_corpus([tmp_path / source], CorpusOptions(on_error="stop")))


def test_nothing_found_is_an_error_with_the_reason(write: Any, read: Any) -> None:
    path = write("c.jsonl", '{"x": 1}\n{"text": ""}\n')
    with pytest.raises(CorpusError, match=r"c\.jsonl: no document found \(.*1 empty, 1 broken.*c\.jsonl:1: no text"):
        read(path, on_error="skip")


def test_report_is_bounded(write: Any, read: Any) -> None:
    path = write("c.jsonl", '{"text": "x"}\n' + "broken\n" * 5000)
    _, report = read(path, on_error="skip")
    assert report.skipped == 5000
    assert len(report.skipped_rows) == 100


@given(
    data=st.binary(max_size=400), form=st.sampled_from(["jsonl", "json", "csv", "tsv", "parquet", "txt", "md", "data"])
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_documents_or_one_clear_line(data: bytes, form: str, tmp_path: Path) -> None:
    path = tmp_path / f"c.{form}"
    path.write_bytes(data)
    for on_error in ("stop", "skip"):
        report = ReadReport()
        try:
            documents = list(read_corpus([path], CorpusOptions(on_error=on_error), report))
        except CorpusError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right, each in its own way
        else:
            assert report.documents == len(documents) > 0
            for document in documents:
                document.content.encode()  # no lone surrogates get through
                assert "\0" not in document.content


def test_csv_field_limit_of_python_does_not_apply(write: Any, read: Any) -> None:
    csv.field_size_limit(131_072)
    (document,), _ = read(write("c.csv", 'id,text\n1,"' + "word " * 100_000 + '"\n'))
    assert len(document.text) == 500_000
