"""Vector files from Python: the encoder's vectors in order with their ids, whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from llm2comp_apps.corpus import Document
from llm2comp_apps.errors import CorpusError, LLM2CompError, UsageError
from llm2comp_apps.retrieval import vector_files
from llm2comp_apps.retrieval.vector_files import check_output, encode_documents, write_vectors

DOCUMENTS = [Document(f"d{number}", f"text {number}", title=f"title {number % 3}") for number in range(12)]


def read(path):
    """Ids and vectors of either kind of file."""
    if path.suffix == ".npy":
        return path.with_suffix(".ids.txt").read_text("utf-8").splitlines(), np.load(path)
    table = pyarrow.parquet.read_table(path)
    return table["id"].to_pylist(), np.array(table["embedding"].to_pylist(), np.float32)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
@pytest.mark.parametrize("role", ["document", "query"])
def test_the_file_has_what_the_encoder_makes(tmp_path, hash_encoder, suffix, role):
    counts = []
    output = tmp_path / f"out{suffix}"
    report = write_vectors(output, iter(DOCUMENTS), hash_encoder, role=role, on_progress=counts.append)
    prompt = hash_encoder.prompts.get(role)
    ids, vectors = read(output)
    assert ids == [document.id for document in DOCUMENTS]
    np.testing.assert_array_equal(vectors, hash_encoder.encode([each.content for each in DOCUMENTS], prompt=prompt))
    assert [told.done for told in counts] == list(range(1, 13))
    assert (report.vectors, report.dimension, report.encoder, report.warnings) == (12, 32, "hash", ())
    assert (report.output, report.fingerprint) == (output, hash_encoder.fingerprint)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_no_document_makes_an_empty_file(tmp_path, hash_encoder, suffix):
    write_vectors(tmp_path / f"out{suffix}", [], hash_encoder)
    ids, vectors = read(tmp_path / f"out{suffix}")
    assert ids == []
    assert len(vectors) == 0


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_an_error_leaves_what_was_there(tmp_path, hash_encoder, suffix):
    output = tmp_path / f"out{suffix}"
    write_vectors(output, DOCUMENTS[:3], hash_encoder)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken():
        yield from DOCUMENTS
        raise CorpusError("corpus.jsonl:13: not JSON")

    with pytest.raises(CorpusError, match="13: not JSON"):
        write_vectors(output, broken(), hash_encoder)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("moment", ["write", "close"])
def test_a_full_disk_names_the_file(tmp_path, hash_encoder, monkeypatch, moment):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(vector_files._NpyWriter, moment, fail)
    with pytest.raises(LLM2CompError, match=r"out\.npy: cannot be written: No space left on device"):
        write_vectors(tmp_path / "out.npy", DOCUMENTS, hash_encoder)
    assert list(tmp_path.iterdir()) == []


def test_errors_of_reading_keep_their_own_words(tmp_path, hash_encoder):
    def vanished():
        yield DOCUMENTS[0]
        raise FileNotFoundError(errno.ENOENT, "No such file", "corpus.jsonl")

    with pytest.raises(FileNotFoundError, match=r"corpus\.jsonl"):
        write_vectors(tmp_path / "out.npy", vanished(), hash_encoder)


@pytest.mark.parametrize("name", ["out.npz", "out", "nowhere/out.npy", "folder.npy", "ids.npy"])
def test_an_output_that_cannot_be_is_refused(tmp_path, hash_encoder, name):
    for folder in ("folder.npy", "ids.ids.txt"):
        (tmp_path / folder).mkdir()
    with pytest.raises(UsageError, match=name) as caught:
        write_vectors(tmp_path / name, DOCUMENTS, hash_encoder)
    assert caught.value.field == "output"
    assert hash_encoder.calls == 0


def test_sources_are_not_written_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes").mkdir()
    check_output(Path("all.npy"), ["notes", "-"])
    with pytest.raises(UsageError, match=r"all\.npy lies in notes, which is read; write elsewhere"):
        check_output(Path("notes/all.npy"), ["other.jsonl", "notes"])


def test_an_unknown_role_is_refused_at_the_call(hash_encoder):
    hash_encoder.prompts = {"query": "find: ", "clustering": "topic: "}
    with pytest.raises(UsageError, match="role must be one of clustering, document, query, not 'passage'"):
        encode_documents(hash_encoder, DOCUMENTS, "passage")
    _, vectors = next(encode_documents(hash_encoder, DOCUMENTS, "clustering"))
    np.testing.assert_array_equal(vectors, hash_encoder.encode([DOCUMENTS[0].content], prompt="topic: "))


@pytest.mark.parametrize("count", [1, 9, 10, 99_999, 1_000_000])
def test_npy_header_fits_any_number_of_rows(count, tmp_path, hash_encoder):
    """The header is written before the rows are counted, and again after; it must not change its length."""
    sizes = []
    for rows in (0, count):
        writer = vector_files._NpyWriter([tmp_path / "a.npy", tmp_path / "a.txt"], hash_encoder)
        writer._rows = rows
        writer._array.seek(0)
        writer._write_header()
        sizes.append(writer._array.tell())
        writer.close()
    assert sizes[0] == sizes[1]


def test_ids_stay_with_their_vectors_whatever_the_blocks(make_hash_encoder):
    """An encoder reads ahead and gives back blocks of any size."""
    encoder = make_hash_encoder()

    def in_blocks(texts, *, prompt=None):
        texts = iter(texts)
        held = [next(texts) for _ in range(3)]
        for size in (1, 4, 2):
            held += [text for _, text in zip(range(size), texts, strict=False)]
            yield encoder.encode(held[:size], prompt=prompt)
            held = held[size:]
        yield encoder.encode([*held, *texts], prompt=prompt)

    encoder.encode_stream = in_blocks
    documents = [Document(str(number), f"text {number}") for number in range(12)]
    found = list(encode_documents(encoder, iter(documents)))
    assert [id_ for ids, _ in found for id_ in ids] == [document.id for document in documents]
    np.testing.assert_array_equal(
        np.concatenate([vectors for _, vectors in found]), encoder.encode([document.text for document in documents])
    )
