"""`verify_index` tells what is damaged, of an index that can no longer be opened too."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from llm2comp_indexes import Index, IndexDamagedError, IndexFormatError, IndexMissingError, verify_index
from llm2comp_indexes.core import writer as writing


@pytest.fixture
def filled(make_index, fill):
    """The directory of an index of 40 documents."""
    index = make_index()
    fill(index, 40)
    index.close()
    return index.path


def the(path, name):
    (found,) = path.rglob(name)
    return found


def test_a_sound_index_has_no_damage(filled):
    assert verify_index(filled) == []


def test_every_missing_or_changed_file_is_listed(filled):
    for name in ("vectors.f16", "ids.i64"):
        the(filled, name).unlink()
    (words, *_) = sorted((filled / "lexical").rglob("*.store"))
    words.write_bytes(words.read_bytes()[:-1])
    with pytest.raises(IndexDamagedError):
        Index.open(filled)
    found = {damage.file.rsplit("/", 1)[1]: damage.reason for damage in verify_index(filled)}
    assert found.keys() == {"vectors.f16", "ids.i64", words.name}
    assert "cannot be read" in found["vectors.f16"]


def test_a_missing_segment_is_damage_too(filled):
    shutil.rmtree(filled / "segments")
    assert len(verify_index(filled)) == 2


def test_a_store_that_cannot_be_read_is_damage(filled):
    (filled / "store.db").write_bytes(b"nothing of SQLite")
    (damage,) = verify_index(filled)
    assert damage.file == "store.db"
    assert "not those of an index" in damage.reason
    assert str(filled) not in damage.reason


def test_what_is_no_index_is_an_error(filled):
    with pytest.raises(IndexMissingError):
        verify_index(filled / "nothing")
    (filled / "store.db").unlink()
    with pytest.raises(IndexFormatError):
        verify_index(filled)


def test_a_generation_that_a_writer_replaced_meanwhile_is_no_damage(filled, monkeypatch):
    """The writer comes between reading the manifest and pinning the files that it names."""
    read, written = writing.read_manifest, []

    def read_slowly(path, connection):
        manifest = read(path, connection)
        if not written:
            written.append(True)
            with Index.open(filled) as index:
                index.compact()
                with index.writer() as writer:
                    writer.delete(["d1"])
                    writer.commit()
                index.compact()
        return manifest

    monkeypatch.setattr("llm2comp_indexes.core.verify.read_manifest", read_slowly)
    assert verify_index(filled) == []
    assert written


def test_words_are_searched_without_the_vectors(filled):
    the(filled, "vectors.f16").unlink()
    with Index.open(filled) as index:
        assert index.search_lexical("number 7", 1)[0].id == "d7"
        with pytest.raises(IndexDamagedError, match=r"vectors\.f16: cannot be read"):
            index.search(np.ones(8), 1)


def test_the_size_is_that_of_the_closed_index(make_index, fill):
    index = make_index()
    fill(index, 2000)
    with index.writer() as writer:
        writer.delete([f"d{i}" for i in range(1900)])
        writer.commit()
    index.compact()
    told = index.info().bytes
    index.close()
    assert (index.path / "store.db-wal").stat().st_size == 0
    assert told == sum(path.stat().st_size for path in index.path.rglob("*") if path.is_file())
