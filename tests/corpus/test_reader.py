"""Where documents are found and which field means what."""

from __future__ import annotations

import datetime
import decimal
import gzip
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
    assert [d.id for d in documents] == ["1", "docs/b/2.txt"]
    assert (report.files, report.ignored_files, dict(report.other_kinds)) == (2, 1, {".png": 1})
    documents, report = read(str(tmp_path / "docs"), format="txt")
    assert [d.id for d in documents] == ["docs/a.jsonl", "docs/b/2.txt"]
    assert [(Path(file.path).name, file.why) for file in report.passed_over] == [("picture.png", "damaged")]


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


@pytest.mark.parametrize("encoding", ["hex", "undefined", "no-such"])
def test_an_encoding_that_is_none_of_text_is_refused(encoding: str) -> None:
    with pytest.raises(UsageError, match=f"encoding must be a text encoding that Python knows, not '{encoding}'"):
        CorpusOptions(encoding=encoding)


def test_files_of_one_name_in_two_folders_keep_apart(write: Any, read: Any, monkeypatch: Any, tmp_path: Path) -> None:
    paths = [write(f"{name}/README.md", name) for name in ("a", "b", "deep/a")]
    folders = [str(Path(path).parent) for path in paths]
    documents, _ = read(*folders[:2])
    assert [d.id for d in documents] == ["a/README.md", "b/README.md"]
    documents, _ = read(folders[0], folders[2])
    assert [d.id for d in documents] == [f"{tmp_path.name}/a/README.md", "deep/a/README.md"]
    documents, _ = read(*paths)
    assert [d.id for d in documents] == [f"{tmp_path.name}/a/README.md", "b/README.md", "deep/a/README.md"]
    monkeypatch.chdir(folders[0])
    assert [d.id for d in read(".")[0]] == ["a/README.md"]
    assert [d.id for d in read("README.md")[0]] == ["README.md"]
    assert [d.id for d in read(".", folder_in_ids=False)[0]] == ["README.md"]


def test_patterns_read_what_matches_with_the_ids_of_the_folder(write: Any, read: Any, tmp_path: Path) -> None:
    for name in ("a.md", "b.txt", "sub/c.md", ".hidden/d.md", "x.index/e.md", "picture.png", "odd[1].md"):
        write(f"notes/{name}", name)
    documents, _ = read(f"{tmp_path}/notes/**/*.md")
    assert [d.id for d in documents] == ["notes/a.md", "notes/odd[1].md", "notes/sub/c.md"]
    documents, report = read(f"{tmp_path}/notes/*")
    assert [d.id for d in documents] == ["notes/a.md", "notes/b.txt", "notes/odd[1].md"]
    assert report.other_kinds == {".png": 1}
    assert [d.id for d in read(f"{tmp_path}/notes/odd[1].md")[0]] == ["odd[1].md"]  # a file of that name is no pattern
    with pytest.raises(CorpusError, match=r"\*\.pdf: no file to read matches"):
        read_corpus([f"{tmp_path}/notes/*.pdf"])


def test_a_folder_that_a_pattern_looks_into_and_cannot_list_is_told(
    write: Any, read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or what an index holds of it would seem to be gone."""
    for name in ("a.md", "sub/b.md", "other/c.md", "other/deep/d.md"):
        write(f"notes/{name}", name)
    closed, scandir = set[str](), os.scandir

    def refusing(path: Any) -> Any:
        if str(path) in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    closed |= {f"{tmp_path}/notes/sub", f"{tmp_path}/notes/other/deep"}
    for pattern, seen, found in (
        ("**/*.md", ["other/deep", "sub"], ["a.md", "other/c.md"]),
        ("*/*.md", ["sub"], ["other/c.md"]),
        ("*.md", [], ["a.md"]),
    ):
        documents, report = read(f"{tmp_path}/notes/{pattern}", on_error="skip")
        assert [document.id for document in documents] == [f"notes/{name}" for name in found]
        assert sorted(each.path for each in report.passed_over) == [f"{tmp_path}/notes/{name}" for name in seen]
        if seen:
            with pytest.raises(CorpusError, match=r"the folder cannot be read: Permission denied"):
                read(f"{tmp_path}/notes/{pattern}", on_error="stop")


STRAY = {
    "numbers.json": "[1, 2, 3]",
    "package.json": '{"name": "x", "source": "src/x.js", "version": "1.0", "scripts": {"test": "jest"}}',
    "tsconfig.json": '{"compilerOptions": {"target": "es5"}, "files": {}}',
    "en.json": '{"source": "Source", "save": "Save"}',
    "words.json": '["one", "two"]',
    "comments.json": '// settings\n{"a": 1}',
    "geo.json": '{"type": "FeatureCollection", "features": [{"type": "Feature"}]}',
    "rows.jsonl": '{"level": "info"}\n' * 2000,
    "bank.csv": "date,amount\n2024-01-01,5\n",
    "binary.txt": b"\x00\x01\x02",
    "latin.md": "caf\xe9".encode("latin-1"),
    "cut.jsonl.gz": b"\x1f\x8b\x08",
}


def test_folder_with_files_of_other_forms_is_read(write: Any, read: Any, tmp_path: Path) -> None:
    for name, content in STRAY.items():
        write(f"docs/{name}", content)
    write("docs/a.md", "# Real\n\nA document.")
    write("docs/program.bin", b"\x7fELF")
    documents, report = read(str(tmp_path / "docs"))
    assert [d.id for d in documents] == ["docs/a.md"]
    assert {Path(file.path).name for file in report.passed_over} == set(STRAY)
    assert all(file.reason and file.why for file in report.passed_over)
    assert {Path(file.path).name for file in report.foreign()} >= {"package.json", "en.json", "geo.json", "words.json"}
    assert report.kinds["md"].files == report.kinds["md"].documents == 1
    assert report.other_kinds == {".bin": 1}
    assert not report.skipped
    assert "1 document from 1 file; left out: 12 files without a document, 1 file of another kind (.bin 1)" in (
        report.summary()
    )


@pytest.mark.parametrize("name", STRAY)
def test_what_a_folder_passes_over_is_an_error_where_it_is_named(name: str, write: Any, read: Any) -> None:
    path = write(name, STRAY[name])
    if name in ("en.json", "words.json"):  # ids or texts, since somebody says so
        assert len(read(path)[0]) == 2
        return
    with pytest.raises(CorpusError, match=name):
        read(path)
    with pytest.raises(CorpusError, match=name):
        read(str(Path(path).parent), on_error="stop")


def test_broken_records_of_a_corpus_in_a_folder_are_listed(write: Any, read: Any, tmp_path: Path) -> None:
    write("docs/a.jsonl", 'broken\n{"_id": "1", "text": "one"}\nbroken, too\n{"_id": "2", "text": "two"}\n')
    documents, report = read(str(tmp_path / "docs"))
    assert [d.id for d in documents] == ["1", "2"]
    assert [row.place.rsplit(":", 1)[1] for row in report.skipped_rows] == ["1", "3"]
    assert report.passed_over == []


def test_beir_corpus_is_as_strict_as_if_it_were_named(write: Any, read: Any, tmp_path: Path) -> None:
    write("set/corpus.jsonl", '{"_id": "1", "text": "one"}\nbroken\n')
    write("set/queries.jsonl", '{"_id": "1", "text": "one"}\n')
    with pytest.raises(CorpusError, match=r"corpus\.jsonl:2: not JSON"):
        read(str(tmp_path / "set"))


def test_field_names_in_any_case(write: Any, read: Any) -> None:
    rows = ['{"ID": 7, "Title": "t", "TEXT": "x", "Year": 1999}', '{"Id": 8, "text": "y", "Text": "kept"}']
    documents, _ = read(write("c.jsonl", "\n".join(rows)))
    assert [(d.id, d.title, d.text, d.metadata) for d in documents] == [
        ("7", "t", "x", {"Year": 1999}), ("8", "", "y", {"Text": "kept"}),
    ]  # fmt: skip
    documents, _ = read(write("c.csv", "ID;Abstract\n007;12\n"))
    assert [(d.id, d.text) for d in documents] == [("007", "12")]
    assert [d.text for d in read(write("table", "ID\tText\n1\tone\n"))[0]] == ["one"]
    assert [d.text for d in read(write("d.csv", "id,Body\n1,one\n"), text_field="body")[0]] == ["one"]


def test_text_of_several_fields(write: Any, read: Any) -> None:
    rows = ['{"id": 1, "name": "Kettle", "description": "Boils.", "price": 5}', '{"id": 2, "name": "Cup"}', '{"id": 3}']
    path = write("c.jsonl", "\n".join(rows))
    documents, report = read(path, text_field="name, Description", on_error="skip")
    assert [(d.text, d.metadata) for d in documents] == [("Kettle\nBoils.", {"price": 5}), ("Cup", {})]
    assert "looked for name or Description" in report.skipped_rows[0].reason
    documents, _ = read(write("d.jsonl", '{"a,b": "x", "a": "y"}'), text_field="a,b")
    assert [(d.text, d.metadata) for d in documents] == [("x", {"a": "y"})]
    documents, _ = read(write("e.jsonl", '{"title": "T", "lead": "L", "text": "x"}'), text_field="title,lead,text")
    assert [(d.title, d.text) for d in documents] == [("T", "L\nx")]


@pytest.mark.parametrize(
    "content",
    [
        '{"data": [{"text": "one"}, {"text": "two"}]}',
        '{"version": "1.1", "title": "My set", "documents": [\n{"text": "one"},\n{"text": "two"}\n], "n": {"x": [2]}}',
        '{"meta": {"a": [1]}, "rows": [{"text": "one"}, {"text": "two", "pad": "' + "x" * 2**21 + '"}]}',
    ],
)
def test_records_under_a_key(content: str, write: Any, read: Any, tmp_path: Path) -> None:
    write("docs/c.json", content)
    for source in ("docs/c.json", "docs"):
        documents, report = read(str(tmp_path / source))
        assert [d.text for d in documents] == ["one", "two"]
        assert report.derived_ids == 2
    documents, _ = read(write("record.json", '{"text": "one", "data": [{"text": "other"}]}'))
    assert [(d.text, d.metadata) for d in documents] == [("one", {"data": [{"text": "other"}]})]


def test_compressed_bombs_are_refused(write: Any, read: Any, monkeypatch: Any, tmp_path: Path) -> None:
    from llm2comp_apps.corpus import files

    monkeypatch.setattr(files, "_SUSPICIOUS_BYTES", 2**20)
    write("docs/bomb.txt.gz", gzip.compress(bytes(2**23)))
    write("docs/a.txt.gz", gzip.compress(b"a text. " * 1000))
    documents, report = read(str(tmp_path / "docs"))
    assert [d.id for d in documents] == ["docs/a.txt.gz"]
    assert [file.why for file in report.passed_over] == ["too large"]


def test_files_that_give_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("_id,text\n1,Whales sing.\n2,They sing.\n")
    (tmp_path / "b.csv").write_text("_id,text\n2,They sing.\n")
    (tmp_path / "c.csv").write_text("_id,text\n2,They sing.\n3,All of them.\n")
    (tmp_path / "d.txt").write_text(" \n")
    (tmp_path / "e.csv").write_text("_id,text\n")
    report = ReadReport()
    assert len(list(read_corpus([tmp_path], CorpusOptions(), report))) == 3
    assert report.repeated == [str(tmp_path / "b.csv")]
    assert report.bare == [str(tmp_path / "d.txt"), str(tmp_path / "e.csv")]
    assert report.remarks() == [
        f"no text in {tmp_path / 'd.txt'}, {tmp_path / 'e.csv'}",
        f"nothing that did not come before in {tmp_path / 'b.csv'}",
    ]
    assert not report.passed_over
