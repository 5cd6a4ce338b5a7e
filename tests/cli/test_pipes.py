"""Sources that can be read only once: named pipes and what the shell makes of ``<(...)``; nothing waits for ever."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest
from llm2comp_indexes import Index
from llm2comp_train.data.mining import mine_file
from llm2comp_train.data.sources import find_data

from llm2comp_apps.corpus import ReadReport, read_corpus
from llm2comp_apps.errors import TrainingError

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")

RECORD = '{"_id": "a", "text": "Cells divide by mitosis."}\n'


@pytest.fixture(autouse=True)
def no_waiting():
    """A test that waits for a pipe fails after a minute."""

    def fail(*_):
        raise TimeoutError("it waits for a pipe")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def pipe(tmp_path):
    """A named pipe to which something is written once."""
    threads = []

    def make(content=RECORD, name="pipe.jsonl"):
        path = tmp_path / name
        os.mkfifo(path)
        threads.append(threading.Thread(target=path.write_text, args=(content,), daemon=True))
        threads[-1].start()
        return path

    yield make
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive(), "nobody read the pipe"


def ids(index):
    return sorted(Index.open(index).ids())


def test_build_and_add_read_a_pipe_once(cli, encoders, pipe):
    result = cli("index", "build", pipe(), "-o", "x.index")
    assert result.exit_code == 0, result.stderr
    assert "1 documents added" in result.stderr
    result = cli("index", "add", "x.index", pipe('{"_id": "z", "text": "owl"}\n', "more.jsonl"))
    assert result.exit_code == 0, result.stderr
    assert ids("x.index") == ["a", "z"]


def test_a_pipe_lies_beside_nothing(cli, encoders, tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    result = cli("index", "build", tmp_path / "pipe.jsonl")
    assert result.exit_code == 2
    assert "-o is needed to place the index of a pipe" in result.stderr.replace("--output", "-o")


def test_process_substitution_is_read_once(cli, encoders):
    reading, writing = os.pipe()
    os.write(writing, RECORD.encode())
    os.close(writing)
    try:
        result = cli("index", "build", f"/dev/fd/{reading}", "-o", "x.index")
    finally:
        os.close(reading)
    assert result.exit_code == 0, result.stderr
    assert ids("x.index") == ["a"]


def test_a_file_beside_a_pipe_is_read_too_and_the_total_is_unknown(pipe, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text('{"_id": "b", "text": "b"}\n')
    report = ReadReport()
    assert [document.id for document in read_corpus([pipe(), other], report=report)] == ["a", "b"]
    assert (report.bytes_total, report.fraction) == (None, None)


def test_a_pipe_inside_a_folder_is_passed_over(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.jsonl").write_text(RECORD)
    os.mkfifo(tmp_path / "notes" / "b.jsonl")
    assert [document.id for document in read_corpus([tmp_path / "notes"])] == ["a"]
    assert [file.name for file in find_data([str(tmp_path / "notes")])] == ["a.jsonl"]


@pytest.mark.parametrize("content", ["", "{\n", '{"_id": "a", "text": ""}\n'])
def test_a_build_that_fails_leaves_no_empty_index(cli, encoders, pipe, content):
    for source, options in ((pipe(content), {}), ("-", {"input": content})):
        assert cli("index", "build", source, "-o", "x.index", **options).exit_code == 1
        assert not Path("x.index").exists()


def test_a_build_that_fails_later_keeps_what_is_done(cli, encoders, monkeypatch):
    for size in ("_LOOKUP", "_WINDOW_DOCUMENTS"):
        monkeypatch.setattr(f"llm2comp_apps.retrieval.build.{size}", 1)
    assert cli("index", "build", "-", "-o", "x.index", input=RECORD + "{\n").exit_code == 1
    assert ids("x.index") == ["a"]
    assert cli("index", "build", "-", "-o", "x.index", input="{\n").exit_code == 1
    assert ids("x.index") == ["a"]


def test_a_missing_source_beside_standard_input_is_said_before_an_encoder_is_loaded(cli, encoders):
    result = cli("index", "build", "-", "nowhere.jsonl", "-o", "x.index", input=RECORD)
    assert (result.exit_code, encoders.loaded) == (1, [])
    assert "nowhere.jsonl: no such file or folder" in result.stderr


def test_training_says_that_it_needs_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for source in (str(tmp_path / "pipe"), "-"):
        with pytest.raises(TrainingError, match="can be read only once, and training may read its data again"):
            find_data([source])


def test_mining_reads_a_pipe_once(pipe, make_hash_encoder, tmp_path):
    pairs = "".join(json.dumps({"query": f"query {n}", "positive": f"answer {n}"}) + "\n" for n in range(3))
    report = mine_file(make_hash_encoder(), str(pipe(pairs)), tmp_path / "mined.jsonl", margin=1.0)
    assert report.pairs == 3
