"""The vectors that ``llm2comp encode`` writes are the encoder's, in order, with their ids, in bounded memory."""

from __future__ import annotations

import errno
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from llm2comp_apps.corpus import read_corpus
from llm2comp_apps.retrieval import vector_files


@pytest.fixture
def expected(encoders):
    """Ids and vectors of a corpus, computed all at once."""

    def compute(path, prompt=None):
        documents = list(read_corpus([path]))
        vectors = encoders["default"].encode([document.content for document in documents], prompt=prompt)
        return [document.id for document in documents], vectors

    return compute


def test_npy(cli, write_corpus, expected, tmp_path):
    path = write_corpus(9)
    result = cli("encode", path, "-o", "out.npy", "--json")
    assert result.exit_code == 0, result.stderr
    ids, vectors = expected(path)
    array = np.load("out.npy", mmap_mode="r", allow_pickle=False)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, vectors)
    assert Path("out.ids.txt").read_text().split("\n") == [*ids, ""]
    answer = json.loads(result.stdout)
    assert (answer["vectors"], answer["dimension"], answer["output"]) == (9, 32, "out.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl", "out.ids.txt", "out.npy"]


def test_parquet(cli, write_corpus, expected, encoders, monkeypatch):
    monkeypatch.setattr(vector_files, "_ROW_GROUP", 4)
    path = write_corpus(11)
    assert cli("encode", path, "-o", "out.parquet").exit_code == 0
    ids, vectors = expected(path)
    table = pyarrow.parquet.read_table("out.parquet")
    assert table["id"].to_pylist() == ids
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), vectors)
    assert pyarrow.parquet.ParquetFile("out.parquet").num_row_groups == 3
    assert table.schema.metadata[b"fingerprint"].decode() == encoders["default"].fingerprint


def test_role_chooses_the_prompt(cli, write_corpus, encoders, monkeypatch):
    prompts = []
    original = encoders["default"].encode_stream

    def record(texts, prompt):
        prompts.append(prompt)
        return original(texts, prompt=prompt)

    monkeypatch.setattr(encoders["default"], "encode_stream", record)
    path = write_corpus(2)
    for role in ("document", "query"):
        assert cli("encode", path, "-o", "out.npy", "--role", role).exit_code == 0
    assert prompts == [None, "find: "]
    result = cli("encode", path, "-o", "other.npy", "--role", "passage")
    assert result.exit_code == 2
    assert "--role must be one of document, query, not 'passage'" in result.stderr
    assert not Path("other.npy").exists()


def test_lines_and_other_encoder(cli, encoders):
    Path("sentences.txt").write_text("Stars are born.\nBread rises.\n")
    assert cli("encode", "sentences.txt", "--format", "lines", "--encoder", "other", "-o", "s.npy").exit_code == 0
    np.testing.assert_array_equal(np.load("s.npy"), encoders["other"].encode(["Stars are born.", "Bread rises."]))
    assert encoders.loaded == ["other"]


@pytest.mark.parametrize("name", ["out.npz", "out", "nowhere/out.npy"])
def test_output_that_makes_no_sense(name, cli, write_corpus, encoders):
    result = cli("encode", write_corpus(1), "-o", name)
    assert result.exit_code == 2
    assert name in result.stderr
    assert not encoders.loaded, "found out before a model is loaded"


@pytest.mark.parametrize(
    ("corpus", "output", "message"),
    [
        ("papers.ids.txt", "papers.npy", "papers.ids.txt is papers.ids.txt, which is read"),
        ("notes", "notes/all.parquet", "all.parquet lies in notes, which is read"),
        ("notes/a.parquet", "notes/a.parquet", "a.parquet is notes/a.parquet, which is read"),
    ],
)
def test_no_text_is_written_over(corpus, output, message, cli, encoders):
    Path("notes").mkdir()
    for name in ("papers.ids.txt", "notes/a.parquet"):
        Path(name).write_text("a text\n")
    done = cli("encode", corpus, "-o", output)
    assert (done.exit_code, message in done.stderr) == (2, True)
    assert Path("papers.ids.txt").read_text() == Path("notes/a.parquet").read_text() == "a text\n"


def test_missing_corpus_is_found_before_a_model_is_loaded(cli, encoders):
    result = cli("encode", "nowhere.jsonl", "-o", "out.npy")
    assert result.exit_code == 1
    assert "nowhere.jsonl: no such file" in result.stderr
    assert not encoders.loaded


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_broken_corpus_leaves_what_was_there(suffix, cli, write_corpus, encoders, tmp_path):
    path = write_corpus(3)
    assert cli("encode", path, "-o", f"out{suffix}").exit_code == 0
    before = Path(f"out{suffix}").read_bytes()
    with path.open("a") as file:
        file.write("broken\n")
    result = cli("encode", path, "-o", f"out{suffix}")
    assert result.exit_code == 1
    assert "corpus.jsonl:4: not JSON" in result.stderr
    assert Path(f"out{suffix}").read_bytes() == before
    assert not list(tmp_path.glob(".*"))
    result = cli("encode", path, "-o", f"out{suffix}", "--on-error", "skip")
    assert result.exit_code == 0
    assert "corpus.jsonl:4: not JSON" in result.stderr
    assert Path(f"out{suffix}").read_bytes() == before


def test_texts_that_are_too_long_are_reported(cli, write_corpus, encoders):
    encoder = encoders["default"]
    encoder.cut, encode = 0, encoder.encode

    def cutting(texts, **options):
        encoder.cut += sum("mitosis" in text for text in texts)
        return encode(texts, **options)

    encoder.encode = cutting
    result = cli("encode", write_corpus(4), "-o", "out.npy", "--json")
    line = "1 text is longer than its limit, of which hash reads the beginning only"
    assert f"Warning: {line}\n" in result.stderr
    assert json.loads(result.stdout)["warnings"] == [line]


def test_full_disk_is_one_line(cli, write_corpus, encoders, monkeypatch, tmp_path):
    def fail(self, ids, vectors):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(vector_files._NpyWriter, "write", fail)
    result = cli("encode", write_corpus(1), "-o", "out.npy")
    assert result.exit_code == 1
    assert "out.npy: cannot be written: No space left on device" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


def test_ids_that_do_not_fit_on_a_line(cli, encoders):
    Path("c.jsonl").write_text('{"_id": "a\\nb", "text": "x"}\n')
    result = cli("encode", "c.jsonl", "-o", "out.npy")
    assert result.exit_code == 1
    assert "'a\\nb' has a line break" in result.stderr
    assert cli("encode", "c.jsonl", "-o", "out.parquet").exit_code == 0
    assert pyarrow.parquet.read_table("out.parquet")["id"].to_pylist() == ["a\nb"]


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_memory_does_not_grow_with_the_corpus(suffix, cli, encoders, monkeypatch):
    monkeypatch.setattr(vector_files, "_ROW_GROUP", 64)
    peaks = []
    for count in (200, 200, 3000):  # the first run pays for imports, too
        # Few different words, since the stand-in encoder remembers each; vectors of 3000 rows take 0.4 MB.
        Path("c.jsonl").write_text("".join(f'{{"_id": "{i}", "text": "stars are born"}}\n' for i in range(count)))
        tracemalloc.start()
        assert cli("encode", "c.jsonl", "-o", f"out{suffix}").exit_code == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 200_000, peaks
