"""No file takes longer over a record than it may, and no plain form takes the square of its size."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llm2comp_apps.corpus import CorpusOptions, ReadReport, read_corpus
from llm2comp_apps.corpus import deadline as deadlines
from llm2comp_apps.corpus.deadline import Deadline
from llm2comp_apps.corpus.readers.code import cut_code
from llm2comp_apps.corpus.readers.markdown import read_front_matter, title_of
from llm2comp_apps.corpus.records import BrokenFileError, Record
from llm2comp_apps.errors import CorpusError

ROWS = [{"_id": str(number), "text": f"Whale {number} sings in the deep sea."} for number in range(5)]
PLAIN = {
    "md": b"# Whales\n\nThey sing.",
    "txt": b"Whales sing.",
    "py": b"def sing():\n    return 'whale'\n",
    "csv": b"_id,text\n1,Whales sing.\n",
    "jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "json": json.dumps(ROWS).encode(),
}


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is three seconds after the one before."""
    now = iter(range(0, 10**6, 3))
    monkeypatch.setattr(deadlines.time, "monotonic", lambda: next(now))


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("suffix", PLAIN)
def test_plain_files_that_take_too_long_are_named(suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / f"a.{suffix}").write_bytes(PLAIN[suffix])
    report = ReadReport()
    with pytest.raises(CorpusError, match="no document found"):
        list(read_corpus([folder], CorpusOptions(max_seconds=2), report))
    (file,) = report.passed_over
    assert file.why == "took too long"
    assert "more than 2 seconds" in file.reason
    with pytest.raises(CorpusError, match=f"{suffix}: it took more than 2 seconds"):
        list(read_corpus([folder / f"a.{suffix}"], CorpusOptions(max_seconds=2)))
    assert list(read_corpus([folder], CorpusOptions(max_seconds=60)))


@pytest.mark.usefixtures("late")
def test_a_pipe_may_take_its_time(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(PLAIN["jsonl"],))
    writer.start()
    assert len(list(read_corpus([tmp_path / "pipe"], CorpusOptions(max_seconds=2)))) == 5
    writer.join()


def test_what_is_done_with_a_record_takes_no_time_of_the_next() -> None:
    deadline = Deadline(0.2)
    for _ in deadline.each(iter([Record({}, "a", 1), Record({}, "a", 2), Record({}, "a", 3)])):
        time.sleep(0.25)

    def slow() -> Any:
        yield Record({}, "a", 1)
        time.sleep(0.25)
        yield Record({}, "a", 2)

    with pytest.raises(BrokenFileError, match=r"more than 0\.2 seconds"):
        list(Deadline(0.2).each(slow()))


def test_a_stream_that_crawls_is_given_up_between_its_blocks() -> None:
    stream = io.BytesIO(bytes(10**6))
    deadline = Deadline(0.05)
    watched = deadline.watched(io.BufferedReader(stream))  # type: ignore[arg-type]
    assert watched.read(10) == bytes(10)
    time.sleep(0.1)
    with pytest.raises(BrokenFileError, match="took more than"):
        watched.read()


def test_a_file_of_nothing_but_faults_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.jsonl").write_text("no json\n" * 200_000)
    (tmp_path / "docs" / "b.txt").write_text("Whales sing.")
    report = ReadReport()
    assert [document.id for document in read_corpus([tmp_path / "docs"], CorpusOptions(), report)] == ["docs/b.txt"]
    assert [file.line for file in report.passed_over] == [1]
    assert report.bytes_done < 10**6


@pytest.mark.parametrize(
    "text",
    [
        "# x" + " " * 10**6 + "y",
        "# x" + " #" * 10**6,
        "#" * 10**6,
        "```\n" * 10**5 + "~~~\n" * 10**5,
        "`" * 10**6,
        "---\n" * 10**5,
        "---" + " " * 10**6,
    ],
    ids=["spaces", "hashes", "hash", "fences", "ticks", "rules", "rule"],
)
def test_markdown_takes_no_square_of_its_size(text: str) -> None:
    start = time.process_time()
    read_front_matter(text)
    title_of(text, "md")
    title_of(text, "rst")
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "text",
    [
        "// so\n" * 10**5,
        "a" * 10**6,
        "a b " * 10**5,
        "async " * 10**5,
        "f(" * 10**5,
        "x = 1\n\n" * 2 * 10**4,
        "\n" * 10**5,
    ],
    ids=["comments", "word", "words", "before", "calls", "lines", "empty"],
)
def test_code_takes_no_square_of_its_size(text: str) -> None:
    start = time.process_time()
    list(cut_code(text, ".js", "a.js"))
    assert time.process_time() - start < 5


@pytest.mark.parametrize("values", ["[" * 5000, "{a=" * 5000])
def test_metadata_that_are_nested_too_deeply_are_text(values: str) -> None:
    text = f"+++\na = {values}\n+++\nWhales sing."
    assert read_front_matter(text) == ({}, text, "they are nested too deeply")


def test_names_of_many_parts_are_nested_too_deeply() -> None:
    text = f"+++\n{'.'.join(['a'] * 8_000)} = 1\n+++\nWhales sing."
    assert read_front_matter(text)[2] == "they are nested too deeply"
    assert "longer than 16384" in read_front_matter(text.replace("=", ".a" * 8_000 + " ="))[2]


@pytest.mark.parametrize(
    ("text", "title"),
    [("# a ##  ", "a"), ("# C#", "C#"), ("# C# #", "C#"), ("# #", "#"), ("#\tb \t", "b"), ("## a # b", "a # b")],
)
def test_headings_may_be_closed(text: str, title: str) -> None:
    assert title_of(text, "md") == title
