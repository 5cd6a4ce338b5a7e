"""A corpus that is cut and read in parts is the corpus that is read at once."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm2comp_apps.corpus import CorpusOptions, ReadReport, cut_corpus, read_corpus, read_slices
from llm2comp_apps.errors import CorpusError, UsageError

RECORDS = [
    {"_id": f"d{number}", "title": f"Title {number}", "text": f"text ä {number} " * (1 + number % 7), "year": number}
    for number in range(60)
]
JSONL = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)
CSV = "_id,title,text,year\n" + "".join(
    f'd{number},"Title, {number}","first ""line""\nsecond ä {number}",{number}\n' for number in range(60)
)


def write_zstd(path, text):
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(text.encode())


def write_parquet(path, _):
    pq.write_table(pa.Table.from_pylist(RECORDS), path, row_group_size=13)


WRITERS = {
    "plain.jsonl": lambda path, _: path.write_text(JSONL, "utf-8"),
    "cut-off.jsonl": lambda path, _: path.write_text(JSONL.rstrip("\n"), "utf-8"),
    "mark.jsonl": lambda path, _: path.write_text(JSONL, "utf-8-sig"),
    "wide.jsonl": lambda path, _: path.write_text(JSONL, "utf-16"),
    "crlf.jsonl": lambda path, _: path.write_bytes(JSONL.replace("\n", "\r\n").encode()),
    "packed.jsonl.gz": lambda path, _: path.write_bytes(gzip.compress(JSONL.encode())),
    "packed.jsonl.zst": lambda path, _: write_zstd(path, JSONL),
    "table.csv": lambda path, _: path.write_text(CSV, "utf-8"),
    "crlf.csv": lambda path, _: path.write_bytes(CSV.replace("\n", "\r\n").encode()),
    "returns.csv": lambda path, _: path.write_bytes(CSV.replace("\nsecond", "\rsecond").encode()),
    "packed.csv.gz": lambda path, _: path.write_bytes(gzip.compress(CSV.encode())),
    "table.tsv": lambda path, _: path.write_text("_id\ttext\n" + "".join(f"{n}\tword {n}\n" for n in range(60))),
    "array.json": lambda path, _: path.write_text(json.dumps(RECORDS)),
    "rows.parquet": write_parquet,
    "one.txt": lambda path, _: path.write_text("one text\nof two lines"),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("parts", [1, 2, 7, 25])
def test_parts_together_are_the_corpus(tmp_path, name, parts):
    path = tmp_path / name
    WRITERS[name](path, None)
    whole = list(read_corpus([path]))
    cut = cut_corpus([path], parts=parts)
    in_parts = [list(read_slices(part)) for part in cut]
    assert [document for part in in_parts for document in part] == whole  # places in messages too
    if name != "one.txt":
        assert len(cut) == parts
        sizes = [len(part) for part in in_parts]
        assert max(sizes) <= 4 * len(whole) / parts + 2


@pytest.mark.parametrize(("name", "form"), [("joined.jsonl", "auto"), ("joined.txt", "lines")])
def test_a_mark_within_a_file_is_read_alike_wherever_it_is_cut(tmp_path, name, form):
    path, options = tmp_path / name, CorpusOptions(format=form, on_error="skip")
    path.write_text(
        "".join(
            f'\ufeff{{"_id": "a{number}", "text": "word {number}"}}\n{{"text": "{number}"}}\n' for number in range(30)
        )
    )
    whole = list(read_corpus([path], options))
    for parts in (5, 60):
        cut = cut_corpus([path], options, parts=parts)
        assert [document for part in cut for document in read_slices(part, options)] == whole


def test_lines_and_folders(tmp_path):
    (tmp_path / "b").mkdir()
    for number in range(9):
        (tmp_path / "b" / f"{number}.txt").write_text(f"text {number} " * 20)
    (tmp_path / "a.jsonl").write_text(JSONL)
    whole = list(read_corpus([tmp_path]))
    cut = cut_corpus([tmp_path], parts=6)
    assert [document for part in cut for document in read_slices(part)] == whole
    assert len(cut) == 6
    lines = CorpusOptions(format="lines")
    path = tmp_path / "a.jsonl"
    cut = cut_corpus([path], lines, parts=5)
    assert [document for part in cut for document in read_slices(part, lines)] == list(read_corpus([path], lines))


@pytest.mark.parametrize("parts", [1, 4, 10])
def test_small_files_at_the_end_make_no_part_more(tmp_path, parts):
    for number in range(200):  # the last of them begins within the last hundredth of the corpus
        (tmp_path / f"{number:03}.txt").write_text("a few words")
    (tmp_path / "000.jsonl").write_text(JSONL)
    cut = cut_corpus([tmp_path], parts=parts)
    assert len(cut) == parts  # an array of jobs counts on it
    assert [document for part in cut for document in read_slices(part)] == list(read_corpus([tmp_path]))


def test_the_same_corpus_is_cut_in_the_same_way(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text(JSONL)
    assert cut_corpus([path], parts=4) == cut_corpus([path], parts=4)
    assert len(cut_corpus([path], part_bytes=1000)) == pytest.approx(path.stat().st_size / 1000, abs=1)


def test_broken_records_are_told_by_the_part_that_has_them(tmp_path):
    lines = JSONL.splitlines(keepends=True)
    lines[40] = "{broken\n"
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(lines))
    skip = CorpusOptions(on_error="skip")
    found = []
    for part in cut_corpus([path], skip, parts=5):
        report = ReadReport()
        list(read_slices(part, skip, report))
        found.append([row.place for row in report.skipped_rows])
    assert sorted(found) == [[], [], [], [], [f"{path}:41"]]
    whole = [each for part in cut_corpus([path], parts=5) for each in part]
    with pytest.raises(CorpusError, match=r"corpus\.jsonl:41: not JSON"):
        list(read_slices(whole))


def test_a_broken_array_is_told_by_the_last_part(tmp_path):
    path = tmp_path / "corpus.json"
    path.write_text(json.dumps(RECORDS)[:-1])
    skip = CorpusOptions(on_error="skip")
    found = []
    for part in cut_corpus([path], skip, parts=4):
        report = ReadReport()
        list(read_slices(part, skip, report))
        found.append(report.skipped)
    assert found == [0, 0, 0, 1]


@pytest.mark.parametrize("name", ["plain.jsonl", "packed.jsonl.gz", "rows.parquet", "array.json", "table.csv"])
def test_a_changed_file_is_refused_by_name(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, None)
    cut = cut_corpus([path], parts=3)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(1, 1))
    for part in cut:
        with pytest.raises(CorpusError, match=rf"{name}: has changed since"):
            list(read_slices(part))
    path.unlink()
    with pytest.raises(CorpusError, match=rf"{name}: cannot be read any more"):
        list(read_slices(cut[0]))


def test_bytes_are_compared_even_where_size_and_time_are_the_same(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text(JSONL)
    before = path.stat()
    cut = cut_corpus([path], parts=3)
    path.write_text(JSONL.replace("Title 30", "Title 31"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = []
    for part in cut:
        try:
            list(read_slices(part))
        except CorpusError as error:
            changed.append(str(error))
    assert len(changed) == 1
    assert "has changed since" in changed[0]


def test_a_copy_with_another_time_is_the_same(tmp_path):
    path = tmp_path / "rows.parquet"
    write_parquet(path, None)
    cut = cut_corpus([path], parts=3)
    os.utime(path, ns=(1, 1))
    assert [document for part in cut for document in read_slices(part)] == list(read_corpus([path]))


def test_what_cannot_be_cut_is_refused(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text(JSONL)
    with pytest.raises(UsageError, match="parts must be at least 1"):
        cut_corpus([path], parts=0)
    with pytest.raises(UsageError, match="can be read only once"):
        cut_corpus(["-"])
    with pytest.raises(CorpusError, match="no such file"):
        cut_corpus([tmp_path / "none.jsonl"])


def test_a_part_without_documents_is_no_error(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text(JSONL + "\n" * 4000)
    cut = cut_corpus([path], parts=8)
    counts = [len(list(read_slices(part))) for part in cut]
    assert 0 in counts
    assert sum(counts) == len(RECORDS)


def test_a_corpus_of_empty_files_is_cut_and_holds_nothing(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.touch()
    (part,) = cut_corpus([path], parts=3)
    assert list(read_slices(part)) == []


def test_slices_survive_as_plain_values(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text(JSONL)
    (part,) = cut_corpus([path], parts=1)
    assert replace(part[0], file=replace(part[0].file)) == part[0]


def test_one_path_in_place_of_a_list_is_not_read_by_its_letters(tmp_path):
    path = tmp_path / "the-corpus.jsonl"
    path.write_text(JSONL)
    for one in (path, str(path)):
        for read in (cut_corpus, read_corpus):
            with pytest.raises(UsageError, match=r"^corpus must be a list of files and folders, not one; write \["):
                read(one)


def test_sources_may_come_from_a_generator(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text(JSONL)
    listed = list(read_corpus([path]))
    assert listed
    assert list(read_corpus(each for each in [path])) == listed
    assert cut_corpus((each for each in [path]), parts=1) == cut_corpus([path], parts=1)
    for wrong in (None, 5, [None], [path, 5]):
        with pytest.raises(UsageError, match="must be a list of files and folders, "):
            read_corpus(wrong)
