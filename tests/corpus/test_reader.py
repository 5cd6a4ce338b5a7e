"""Where documents are found and which field means what."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from llm2comp_apps.corpus import CorpusOptions, ReadReport, read_corpus, read_records
from llm2comp_apps.errors import CorpusError, UsageError


def test_fields_have_usual_names(write: Any, read: Any) -> None:
    rows = [
        {"docid": 7, "contents": "seven", "year": 1999, "tags": ["a", {"b": None}]},
        {"id": "x", "body": "full", "abstract": "short", "headline": "News"},
        {"_id": "y", "title": "only a title", "text": None},
    ]
    documents, _ = read(write("c.jsonl", "\n".join(map(json.dumps, rows))))
    assert [(d.id, d.title, d.text, d.metadata) for d in documents] == [
        ("7", "", "seven", {"year": 1999, "tags": ["a", {"b": None}]}),
        ("x", "News", "full", {"abstract": "short"}),
        ("y", "only a title", "", {}),
    ]
    assert [d.source.rsplit("/", 1)[1] for d in documents] == ["c.jsonl:1", "c.jsonl:2", "c.jsonl:3"]


def test_fields_can_be_named(write: Any, read: Any) -> None:
    path = write("c.csv", "key;name;what;text\n1;n;w;t\n")
    documents, _ = read(path, id_field="key", title_field="name", text_field="what")
    assert [(d.id, d.title, d.text, d.metadata) for d in documents] == [("1", "n", "w", {"text": "t"})]


def test_missing_text_field_names_what_is_there(write: Any, read: Any) -> None:
    path = write("c.jsonl", '{"id": 1, "summary": "s"}\n')
    with pytest.raises(
        CorpusError, match=r"c\.jsonl:1: no text: looked for text or .*found 'id', 'summary' \(`text_fie"
    ):
        read(path)


def test_named_fields_that_are_not_there_do_not_go_unnoticed(write: Any, read: Any) -> None:
    path = write("c.jsonl", '{"id": 1, "text": "a"}\n{"nr": 2, "text": "b", "t": "title"}\n')
    with pytest.raises(CorpusError, match=r"c\.jsonl:1: no field 'nr' \(`id_field`\), but 'id', 'text'"):
        read(path, id_field="nr")
    documents, report = read(path, title_field="t")
    assert [d.title for d in documents] == ["", "title"]
    assert report.notes == [f"{path}: there are records without the field 't' (`title_field`)"]


def test_csv_cells_become_numbers_only_without_loss(write: Any, read: Any) -> None:
    cells = ["12", "-0.5", "007", "1.50", "1e5", "-0", "", "12345678901234567890", "NaN", "x"]
    path = write("c.csv", "text," + ",".join("abcdefghij") + "\n1," + ",".join(cells) + "\n")
    (document,), _ = read(path)
    assert document.text == "1"
    assert list(document.metadata.values()) == [12, -0.5, "007", "1.50", "1e5", "-0", None, cells[7], "NaN", "x"]


def test_json_shapes(write: Any, read: Any) -> None:
    """An object can be a record, a map of records or texts, or the first of many lines."""
    shapes = {
        '["one", "two"]': [None, None],
        '{"a": "one", "b": "two"}': ["a", "b"],
        '{"a": {"text": "one"}, "b": {"text": "two", "id": "c"}}': ["a", "c"],
        '{\n "author": "me",\n "text": "one"\n}': [None],
        '{"text": "one"}\n{"text": "two"}\n': [None, None],
        '{"text": "one"} {"text": "two"}': [None, None],
    }
    for number, (content, ids) in enumerate(shapes.items()):
        documents, report = read(write(f"{number}.json", content))
        assert [d.text for d in documents] == ["one", "two"][: len(ids)], content
        assert [d.id for d in documents if d.id in "abc"] == [given for given in ids if given], content
        assert report.derived_ids == ids.count(None)


def test_json_larger_than_any_window(write: Any, read: Any) -> None:
    texts = ["é" * 200_000, "x" * 150_000, "y" * 3]
    for content in (json.dumps(texts), json.dumps(dict(enumerate(texts)), ensure_ascii=False, indent=4)):
        documents, _ = read(write("c.json", content))
        assert [d.text for d in documents] == texts


def test_markdown_title_is_the_first_heading_outside_code(write: Any, read: Any) -> None:
    content = "Intro\n\n```sh\n# a comment\n```\n\n## The  title ##\n\n# Later\n"
    (document,), _ = read(write("notes.md", content))
    assert (document.id, document.title, document.text) == ("notes.md", "The  title", content)


def test_folder_is_read_in_order_without_what_is_not_a_corpus(write: Any, read: Any, tmp_path: Path) -> None:
    write("docs/b/2.txt", "two")
    write("docs/a.jsonl.gz".removesuffix(".gz"), '{"id": "1", "text": "one"}\n')
    write("docs/.git/config.txt", "hidden")
    write("docs/.hidden.txt", "hidden")
    write("docs/corpus.index/export.jsonl", "not ours to read")
    write("docs/picture.png", b"\x89PNG")
    (tmp_path / "docs/loop").symlink_to(tmp_path / "docs", target_is_directory=True)
    documents, report = read(str(tmp_path / "docs"))
    assert [d.id for d in documents] == ["1", "b/2.txt"]
    assert (report.files, report.ignored_files) == (2, 1)
    documents, report = read(str(tmp_path / "docs"), format="txt", on_error="skip")
    assert [d.id for d in documents] == ["a.jsonl", "b/2.txt"]
    assert "picture.png" in report.skipped_rows[0].place


@pytest.mark.parametrize("beside", ["queries.jsonl", "qrels.tsv", "qrels/test.tsv"])
def test_beir_folder_gives_its_corpus_only(beside: str, write: Any, read: Any, tmp_path: Path) -> None:
    write("scifact/corpus.jsonl", '{"_id": "1", "title": "t", "text": "one"}\n')
    write(f"scifact/{beside}", "query-id\tcorpus-id\tscore\n1\t1\t1\n")
    write("scifact/more.txt", "not a document")
    for source in ("scifact", "."):
        documents, _ = read(str(tmp_path / source))
        assert [d.id for d in documents] == ["1"]


def test_unknown_names_go_by_content(write: Any, read: Any) -> None:
    contents = {
        "table": ("id,text\n1,one\n", ["one"]),
        "tabs": ("id\ttext\n1\tone\n", ["one"]),
        "lines.data": ('{"text": "one"}\n{"text": "two"}\n', ["one", "two"]),
        "array": ('[\n {"text": "one"}]', ["one"]),
        "link": ("[a link](there), and text\n", ["[a link](there), and text\n"]),
        "braces": ("{not json}", ["{not json}"]),
        "prose": ("Text, with commas, and more text.\nAnd so on.", ["Text, with commas, and more text.\nAnd so on."]),
    }
    for name, (content, texts) in contents.items():
        documents, _ = read(write(name, content))
        assert [d.text for d in documents] == texts, name
    with pytest.raises(CorpusError, match="binary data"):
        read(write("program", b"\x7fELF\0\0\0"))


def test_byte_order_marks_and_line_ends(write: Any, read: Any) -> None:
    table = "id,text\r\n1,naïve\r\n"
    for encoding in ("utf-8-sig", "utf-16"):
        documents, _ = read(write("c.csv", table.encode(encoding)))
        assert [(d.id, d.text) for d in documents] == [("1", "naïve")]
    documents, _ = read(write("c.jsonl", b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b"}\r\n'))
    assert [d.text for d in documents] == ["a", "b"]
    documents, _ = read(write("c.txt", "na\xefve".encode("latin-1")), encoding="latin-1")
    assert documents[0].text == "naïve"


def test_parquet_types(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "c.parquet"
    table = pyarrow.table(
        {
            "id": pyarrow.array([1, 2]),
            "text": pyarrow.array([b"one", b"two"], pyarrow.binary()),
            "when": pyarrow.array([datetime.date(2020, 1, 2), None]),
            "price": pyarrow.array([decimal.Decimal("1.50"), None]),
            "score": pyarrow.array([float("nan"), 0.5]),
            "tags": pyarrow.array([["a"], None], pyarrow.list_(pyarrow.string())),
            "pairs": pyarrow.array([[("k", 1)], None], pyarrow.map_(pyarrow.string(), pyarrow.int8())),
            "image": pyarrow.array([b"\x89PNG", b"\xff"], pyarrow.binary()),
        }
    )
    pyarrow.parquet.write_table(table, path)
    documents, report = read(str(path))
    assert [(d.id, d.text) for d in documents] == [("1", "one"), ("2", "two")]
    assert documents[0].metadata == {
        "when": "2020-01-02", "price": "1.50", "score": None, "tags": ["a"], "pairs": [["k", 1]],
    }  # fmt: skip
    assert report.notes == [f"{path}: binary columns not read: image"]
    assert report.fraction == 1.0


def test_sources_are_checked_before_anything_is_read(write: Any, tmp_path: Path) -> None:
    good = write("c.jsonl", '{"text": "a"}\n')
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="nowhere: no such file or folder"):
        read_corpus([good, str(tmp_path / "nowhere")])
    with pytest.raises(CorpusError, match="empty: the folder holds no file to read"):
        read_corpus([tmp_path / "empty"])
    for sources in ([], ["-", good, "-"]):
        with pytest.raises(UsageError):
            read_corpus(sources)


@pytest.mark.parametrize(
    "options", [{"format": "xml"}, {"on_error": "ignore"}, {"encoding_errors": "no"}, {"encoding": "utf-9"}]
)
def test_options_refuse_unknown_values(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(options.values()))):
        CorpusOptions(**options)


def test_progress_follows_the_bytes(write: Any) -> None:
    rows = "".join(json.dumps({"text": f"{number} " * 200}) + "\n" for number in range(4000))
    report = ReadReport()
    fractions = [report.fraction for _ in read_corpus([write("c.jsonl", rows)], CorpusOptions(), report)]
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.3
    assert abs(fractions[len(fractions) // 2] - 0.5) < 0.1
    assert fractions[-1] == 1.0


def test_progress_of_a_pipe_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "a"}')))
    report = ReadReport()
    assert [d.source for d in read_corpus(["-"], CorpusOptions(), report)] == ["<stdin>:1"]
    assert report.fraction is None


def test_named_pipe(tmp_path: Path, read: Any) -> None:
    """Process substitution, ``<(zcat ...)``, hands over a path that can be read once and not sought in."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"id": ["1"], "text": ["one"]}), content)
    writer = threading.Thread(target=path.write_bytes, args=(content.getvalue(),))
    writer.start()
    documents, _ = read(str(path))
    writer.join()
    assert [d.id for d in documents] == ["1"]


def test_records_keep_whatever_fields_they_have(write: Any) -> None:
    """The layer that training pairs are read by."""
    path = write("pairs.jsonl", '{"query": "q", "positive": "p", "negative": ["n"]}\n\n{"query": "r"}\n')
    records = list(read_records([path]))
    assert [record.fields for record in records] == [
        {"query": "q", "positive": "p", "negative": ["n"]},
        {"query": "r"},
    ]
    assert [record.place for record in records] == [f"{path}:1", f"{path}:3"]
    report = ReadReport()
    report.reject(records[1].place, "no positive", CorpusOptions(on_error="skip"))
    assert str(report.skipped_rows[0]) == f"{path}:3: no positive"
    with pytest.raises(CorpusError, match=r"pairs\.jsonl:3: no positive"):
        report.reject(records[1].place, "no positive", CorpusOptions())


def test_what_this_program_wrote_into_a_folder_is_not_read(write: Any, read: Any) -> None:
    folder = Path(write("notes/a.jsonl", '{"text": "a"}\n')).parent
    write("notes/new.clusters.jsonl", '{"id": "1", "topic": 0}\n')
    write("notes/x.clusters/documents.jsonl", '{"id": "1", "topic": 0}\n')
    documents, _ = read(str(folder))
    assert [document.text for document in documents] == ["a"]


def test_times_of_parquet_without_pandas_and_beyond_pythons(tmp_path: Path, read: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    times = {"when": pyarrow.timestamp("ns"), "took": pyarrow.duration("ns"), "at": pyarrow.time64("ns")}
    columns = {name: pyarrow.array([1_000_000_001], pyarrow.int64()).cast(kind) for name, kind in times.items()}
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], **columns}), tmp_path / "a.parquet")
    documents, _ = read(str(tmp_path / "a.parquet"))
    assert documents[0].metadata == {"when": "1970-01-01T00:00:01", "took": "0:00:01", "at": "00:00:01"}
    far = pyarrow.array([253402300800 * 10**6], pyarrow.timestamp("us"))  # the year 10000
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "when": far}), tmp_path / "b.parquet")
    with pytest.raises(CorpusError, match=r"b\.parquet:1: a value of the next 1 rows cannot be read"):
        read(str(tmp_path / "b.parquet"))


def test_pictures_within_columns_of_parquet_are_not_read(tmp_path: Path, read: Any) -> None:
    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = {
        "text": pyarrow.array(["a"]),
        "image": pyarrow.array([{"bytes": b"\x89PNG", "path": "a.png"}], picture),
        "frames": pyarrow.array([[b"\xff"]], pyarrow.list_(pyarrow.binary())),
        "view": pyarrow.array([b"\xff"], pyarrow.binary_view()),
        "tags": pyarrow.array([["x"]]),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    documents, report = read(str(tmp_path / "a.parquet"))
    assert documents[0].metadata == {"tags": ["x"]}
    assert any("binary columns not read: image, frames, view" in note for note in report.notes)


def test_the_share_done_grows_over_several_parquet_files(tmp_path: Path) -> None:
    for number in range(4):
        rows = [f"text {number} {row}" for row in range(2000)]
        pyarrow.parquet.write_table(pyarrow.table({"text": rows}), tmp_path / f"{number}.parquet")
    report = ReadReport()
    shares = [report.fraction for _ in read_corpus([str(tmp_path)], CorpusOptions(), report)]
    assert shares == sorted(shares)
    assert 0.4 < shares[len(shares) // 2] < 0.8  # the head of a small file is all of it
    assert shares[-1] > 0.9


def test_columns_of_a_table_without_a_name_are_passed_over(write: Any, read: Any) -> None:
    documents, _ = read(write("spam.csv", "label,text,,\nham,hello,,\n"))
    assert [(document.text, document.metadata) for document in documents] == [("hello", {"label": "ham"})]


def test_an_encoding_that_is_none_of_text_is_refused() -> None:
    with pytest.raises(UsageError, match="encoding must be a text encoding that Python knows, not 'hex'"):
        CorpusOptions(encoding="hex")


def test_two_files_of_one_name_in_two_folders(write: Any, read: Any) -> None:
    folders = [str(Path(write(f"{name}/README.md", name)).parent) for name in ("a", "b")]
    with pytest.raises(CorpusError, match=r"README\.md.*name one above both"):
        read(*folders)
