"""What an index promises to one process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from llm2comp_indexes import (
    DamageWarning,
    FilterError,
    Index,
    IndexDamagedError,
    IndexedDocument,
    IndexExistsError,
    IndexFormatError,
    IndexLockedError,
    IndexMissingError,
    IndexStoreError,
    IndexWriteError,
    InputError,
    KindError,
)
from llm2comp_indexes.storage.store import connect_writer

ENCODER = {"name": "test", "fingerprint": "0"}


def one(name: str, **fields: object) -> IndexedDocument:
    return IndexedDocument(name, f"text of {name}", **fields)


def test_hits_are_the_nearest_documents(make_index, fill):
    index = make_index(dimension=16)
    vectors = fill(index, 500)
    queries = np.random.default_rng(1).standard_normal((7, 16)).astype(np.float32)
    scores = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ vectors.T
    for hits, row in zip(index.search(queries, 10), scores, strict=True):
        best = np.argsort(-row)[:10]
        assert [hit.id for hit in hits] == [f"d{i}" for i in best]
        np.testing.assert_allclose([hit.score for hit in hits], row[best], rtol=1e-5)
        assert all(hit.span is None for hit in hits)


def test_a_document_is_found_once_by_its_best_chunk(make_index):
    index = make_index(dimension=2)
    long = one("long", spans=((0, 3), (3, 9)))
    with index.writer() as writer:
        writer.add([long, one("short")], [[1, 0], [0, 1], [0.9, 0.5]])
        writer.commit()
    (hits,) = index.search([0.1, 1], 5)
    assert [(hit.id, hit.span) for hit in hits] == [("long", (3, 9)), ("short", None)]
    (hits,) = index.search([1, 0], 1)
    assert [(hit.id, hit.span) for hit in hits] == [("long", (0, 3))]


def test_fewer_documents_than_k_and_none_at_all(make_index, fill):
    index = make_index()
    assert index.search(np.ones((2, 8)), 5) == [[], []]
    assert index.search_lexical("text", 5) == []
    assert list(index.ids()) == []
    fill(index, 3)
    assert [len(hits) for hits in index.search(np.ones((2, 8)), 10**9)] == [3, 3]
    assert len(index.search_lexical("text", 10**9)) == 3
    assert index.search(np.empty((0, 8)), 3) == []


def test_upsert_replaces_everything_about_a_document(make_index):
    index = make_index(dimension=2)
    with index.writer() as writer:
        writer.add([one("a", content_hash="1"), one("b")], [[1, 0], [0, 1]])
        writer.commit()
    replacement = IndexedDocument("a", "fresh words", "new", {"n": 1}, ((0, 1), (1, 2)), "2")
    with index.writer() as writer:
        writer.add([replacement], [[0, 1], [0.5, 0.5]])
        writer.commit()
    assert len(index) == 2
    assert index.get(["a"]) == [replacement]
    assert index.hashes(["a", "b", "c"]) == {"a": "2", "b": ""}
    assert index.search_lexical("text of a", 5)[0].id == "b"
    assert [hit.id for hit in index.search_lexical("fresh", 5)] == ["a"]
    assert index.search([[1, 0]], 1)[0][0].span == (1, 2)


def test_the_last_of_equal_ids_in_one_call_counts(make_index):
    index = make_index(dimension=2)
    with index.writer() as writer:
        writer.add(
            [one("a", content_hash="1", spans=((0, 1), (1, 2))), one("b"), one("a", content_hash="2")],
            [[1, 0], [1, 0], [0, 1], [-1, 0]],
        )
        writer.add([one("b", content_hash="3")], [[0, -1]])
        writer.commit()
    assert index.hashes(["a", "b"]) == {"a": "2", "b": "3"}
    assert index.info().vectors == 2
    np.testing.assert_array_equal(index.vectors(["b", "a"]), [[0, -1], [-1, 0]])


def test_deleted_documents_are_gone_from_every_side(make_index, fill):
    index = make_index()
    vectors = fill(index, 50)
    with index.writer() as writer:
        assert writer.delete(["d7", "d8", "unknown"]) == 2
        writer.commit()
    assert len(index) == 48
    assert index.search(vectors[7], 1)[0][0].id != "d7"
    assert "d7" not in {hit.id for hit in index.search_lexical("number 7", 50)}
    assert "d7" not in set(index.ids())
    with pytest.raises(KeyError):
        index.get(["d7"])
    with index.writer() as writer:
        assert writer.delete(list(index.ids())) == 48
        writer.commit()
    assert (len(index), index.info().vectors, index.search(vectors[0], 3)) == (0, 0, [[]])
    assert index.verify() == []


def test_a_commit_without_changes_makes_no_generation(make_index, fill):
    index = make_index()
    fill(index, 5)
    before = index.generation
    with index.writer() as writer:
        assert writer.commit() == before
        writer.add([], np.empty((0, 8)))
        assert writer.commit() == before


def test_a_reader_moves_on_to_an_index_that_replaced_its_own(make_index, fill):
    index = make_index()
    fill(index, 3)
    with Index.open(index.path) as reader:
        old = reader.get(["d0"]), reader.search(np.ones(8), 3)
        shutil.rmtree(index.path)
        replacing = make_index()
        fill(replacing, 3, seed=7, start=1)
        assert replacing.generation == reader.generation
        assert (reader.get(["d0"]), reader.search(np.ones(8), 3)) == old
        assert reader.refresh()
        assert not reader.refresh()
        assert list(reader.ids()) == ["d1", "d2", "d3"]
        assert reader.search(np.ones(8), 3) == replacing.search(np.ones(8), 3)
        assert reader.search_lexical("text", 3) == replacing.search_lexical("text", 3)
        assert reader.verify() == []


@pytest.mark.parametrize("other", [{"dimension": 4}, {"fingerprint": "another"}])
def test_a_reader_does_not_move_on_to_an_index_of_another_encoder(make_index, fill, other):
    index = make_index()
    fill(index, 3)
    with Index.open(index.path) as reader:
        before = reader.search(np.ones(8), 3)
        shutil.rmtree(index.path)
        width, made_by = other.get("dimension", 8), {"name": "test", "fingerprint": other.get("fingerprint", "0")}
        Index.create(index.path, dimension=width, encoder=made_by).close()
        with pytest.raises(IndexStoreError, match=r"test\.index: was replaced by an index of another encoder; open it"):
            reader.refresh()
        assert reader.search(np.ones(8), 3) == before


def test_a_reader_keeps_its_generation_until_it_refreshes(make_index, fill):
    index = make_index()
    fill(index, 30)
    reader = Index.open(index.path)
    before = reader.search(np.ones(8), 30)
    lexical = reader.search_lexical("text", 40)
    with index.writer() as writer:
        writer.delete([f"d{i}" for i in range(10)])
        writer.add([one("new")], np.ones((1, 8)))
        writer.commit()
        writer.compact()
    assert len(index) == 21
    assert len(reader) == 30
    assert reader.search(np.ones(8), 30) == before
    assert reader.search_lexical("text", 40) == lexical
    assert reader.get(["d3"])[0].id == "d3"
    assert reader.verify() == []
    assert reader.refresh()
    assert not reader.refresh()
    assert reader.search(np.ones(8), 1)[0][0].id == "new"
    reader.close()


def test_a_reader_that_opened_nothing_yet_survives_a_compaction(make_index, fill):
    index = make_index()
    fill(index, 30)
    reader = Index.open(index.path)
    index.compact()
    index.compact()
    assert len(reader.search(np.ones(8), 30)[0]) == 30
    assert len(reader.search_lexical("text", 30)) == 30
    reader.close()


def test_replaced_directories_are_removed_once_nobody_reads_them(make_index, fill):
    index = make_index()
    fill(index, 30)
    reader = Index.open(index.path)
    for _ in range(3):
        index.compact()
    reader.close()
    with index.writer() as writer:
        writer.delete(["d0"])
        writer.commit()
    index.refresh()
    with index.writer():
        pass
    assert [len(list((index.path / name).iterdir())) for name in ("segments", "lexical", "tmp")] == [1, 1, 0]


def test_the_second_writer_gets_a_clear_line(make_index):
    index = make_index()
    with index.writer():
        command = [
            sys.executable,
            "-c",
            f"from llm2comp_indexes import Index\nwith Index.open({str(index.path)!r}).writer(): pass",
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert f"IndexLockedError: {index.path}: process {os.getpid()} is writing to this index" in result.stderr
        with pytest.raises(IndexLockedError), Index.open(index.path).writer():
            pass
    with index.writer():
        pass


def test_deleted_text_does_not_linger_in_the_files(make_index):
    index = make_index()
    with index.writer() as writer:
        writer.add([IndexedDocument("a", "extraordinarily secret"), one("b")], np.eye(2, 8))
        writer.commit()
    with index.writer() as writer:
        writer.delete(["a"])
        writer.commit()
    index.compact()
    index.close()
    Index.open(index.path).close()
    content = b"".join(path.read_bytes() for path in index.path.rglob("*") if path.is_file())
    assert b"secret" not in content


def test_memory_vectors_by_chunk(make_index):
    index = make_index(dimension=2, memory_tokens=3)
    memory = np.arange(18, dtype=np.float32).reshape(3, 3, 2)
    with index.writer() as writer:
        writer.add([one("a", spans=((0, 1), (1, 2))), one("b")], [[1, 0], [0, 1], [1, 1]], memory)
        writer.commit()
    found = index.memory(["b", "a", "a"], [None, (1, 2), None])
    np.testing.assert_allclose(found, memory[[2, 1, 0]], atol=17 / 254)  # half a step of int8
    assert index.memory([]).shape == (0, 3, 2)
    with pytest.raises(KeyError):
        index.memory(["a"], [(0, 2)])
    with pytest.raises(KeyError):
        index.memory(["c"])


def test_inner_product_keeps_lengths(make_index):
    index = make_index(dimension=2, settings={"metric": "ip"})
    with index.writer() as writer:
        writer.add([one("short"), one("long")], [[1, 0], [0, 5]])
        writer.commit()
    assert [(hit.id, hit.score) for hit in index.search([[1, 1]], 2)[0]] == [("long", 5.0), ("short", 1.0)]


def test_info_says_what_is_there(make_index, fill):
    index = make_index(settings={"chunk": 128})
    fill(index, 10, chunks=3)
    with index.writer() as writer:
        writer.delete(["d0"])
        writer.commit()
    info = index.info()
    assert (info.documents, info.dimension, info.kind, info.generation) == (9, 8, "flat", 2)
    assert info.encoder == ENCODER
    assert info.settings["chunk"] == 128
    assert (info.recall, info.segments) == (None, 1)
    lines = info.lines()
    assert f"{'documents':<20}9" in lines
    assert "chunk: 128" in [line[20:] for line in lines]
    assert f"{'bytes':<20}{info.bytes:,} ({info.bytes / 2**20:.1f} MiB)" in lines
    assert not any(line.startswith("recall") for line in lines)
    lines = replace(info, settings={"ltr": {"share": 0.7, "of": "", "weights": [[0.5] * 99]}}).lines()
    assert f"{'settings':<20}ltr: share 0.7, ..." in lines, "nobody reads a network"
    index.close()  # folds the write-ahead log in
    assert info.bytes == sum(path.stat().st_size for path in index.path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("documents", "vectors", "message"),
    [
        ([one("a")], np.ones((1, 7)), "shape (1, 7) where (n, 8) is needed"),
        ([one("a")], np.ones((2, 8)), "2 rows for 1 documents that need 1"),
        ([one("a", spans=((0, 1), (1, 2)))], np.ones((1, 8)), "1 rows for 1 documents that need 2"),
        ([one("a"), one("b")], np.full((2, 8), np.nan), "row 0 holds NaN or infinity (document 'a')"),
        ([one("a"), one("b")], np.eye(2, 8) * [[1], [0]], "row 1 is all zeros and has no cosine (document 'b')"),
        ([one("")], np.ones((1, 8)), "document 0 of this batch has an empty id"),
        ([one("a", metadata={"x": float("nan")})], np.ones((1, 8)), "document 'a': cannot be stored"),
        ([one("a", metadata={"x": object()})], np.ones((1, 8)), "document 'a': cannot be stored"),
        ([IndexedDocument("a", "\ud800")], np.ones((1, 8)), "document 'a': cannot be stored"),
    ],
)
def test_input_that_does_not_fit_is_refused_whole(make_index, documents, vectors, message):
    index = make_index()
    with index.writer() as writer:
        writer.add([one("before")], np.ones((1, 8)))
        with pytest.raises(InputError) as error:
            writer.add(documents, vectors)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
        writer.commit()
    assert list(index.ids()) == ["before"]


def test_memory_must_be_given_exactly_when_it_is_kept(make_index):
    plain, keeping = make_index("plain"), make_index("keeping", memory_tokens=2)
    with plain.writer() as writer, pytest.raises(InputError, match="keeps no memory vectors"):
        writer.add([one("a")], np.ones((1, 8)), np.ones((1, 2, 8)))
    with keeping.writer() as writer, pytest.raises(InputError, match=r"where \(1, 2, 8\) is needed"):
        writer.add([one("a")], np.ones((1, 8)))
    with pytest.raises(InputError, match="keeps no memory vectors"):
        plain.memory(["a"])


def test_values_beyond_float16_are_refused(make_index):
    index = make_index(settings={"metric": "ip"})
    with index.writer() as writer, pytest.raises(InputError, match="beyond what float16 holds"):
        writer.add([one("a")], np.full((1, 8), 1e6))


def test_searches_that_make_no_sense_are_refused(make_index, fill):
    index = make_index()
    fill(index, 3)
    with pytest.raises(InputError, match="k must be at least 1, not 0"):
        index.search(np.ones(8), 0)
    with pytest.raises(InputError, match="shape"):
        index.search(np.ones(9), 1)
    with pytest.raises(InputError, match="all zeros"):
        index.search(np.zeros(8), 1)
    with pytest.raises(FilterError) as error:
        index.search(np.ones(8), 1, where="n >")
    assert (error.value.field, error.value.reason[:14]) == ("where", "cannot be read")
    with pytest.raises(FilterError):
        index.search_lexical("text", 1, where="")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimension": 0}, "dimension must be at least 1, not 0"),
        ({"memory_tokens": -1}, "memory_tokens must be at least 0, not -1"),
        ({"settings": {"metric": "l2"}}, "metric must be cosine or ip, not 'l2'"),
        ({"settings": {"language": "klingon"}}, "language 'klingon': "),
        ({"settings": {"kind": ""}}, "kind must be one of auto, flat, "),
        ({"settings": {"kind": "Nonsense"}}, "kind 'Nonsense': FAISS cannot make it for width 8"),
        ({"settings": {"target_recall": 1.5}}, "target_recall must be above 0 and at most 1, not 1.5"),
        ({"settings": {"max_ram": 0}}, "max_ram must be a positive number of bytes, not 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(make_index, fast_path, options, message):
    with pytest.raises((InputError, KindError)) as error:
        make_index(**options)
    assert str(error.value).startswith(message)
    assert str(error.value) == f"{error.value.field} {error.value.reason}"
    assert list(fast_path.iterdir()) == []


def test_what_is_no_index_is_named(fast_path, make_index):
    with pytest.raises(IndexMissingError, match="there is no index here"):
        Index.open(fast_path / "nothing")
    (fast_path / "folder").mkdir()
    with pytest.raises(IndexFormatError, match="not an index"):
        Index.open(fast_path / "folder")
    (fast_path / "folder" / "store.db").write_bytes(b"")
    with pytest.raises(IndexDamagedError):
        Index.open(fast_path / "folder")
    make_index("there")
    with pytest.raises(IndexExistsError, match="already exists"):
        Index.create(fast_path / "there", dimension=8, encoder=ENCODER)
    with pytest.raises(InputError, match="fingerprint"):
        Index.create(fast_path / "new", dimension=8, encoder={"name": "x"})


@pytest.mark.parametrize("module", ["faiss", "tantivy", "torch", "pyarrow", "transformers"])
def test_importing_the_room_imports_nothing_heavy(module):
    code = f"import sys, llm2comp_indexes; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_flat_dense_search_needs_neither_faiss_nor_tantivy(make_index, fill):
    index = make_index()
    fill(index, 5)
    index.close()
    code = (
        "import sys, numpy as np; from llm2comp_indexes import Index; "
        f"Index.open({str(index.path)!r}).search(np.ones(8), 3); "
        "sys.exit('faiss' in sys.modules or 'tantivy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_paths_may_hold_any_character(fast_path):
    path = Path(fast_path) / "my index é #1?%20.index"
    with Index.create(path, dimension=2, encoder=ENCODER) as index:
        with index.writer() as writer:
            writer.add([one("a")], [[1, 0]])
            writer.commit()
        assert index.search([1, 0], 1)[0][0].id == "a"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_reader_that_keeps_asking_answers_the_same(make_index, fill, monkeypatch):
    index = make_index()
    fill(index, 300, chunks=3)
    queries = np.random.default_rng(5).standard_normal((20, 8))
    expected = [index.search(query, 10) for query in queries]
    monkeypatch.setattr("llm2comp_indexes.core.snapshot._PATIENCE", 25)
    with Index.open(index.path) as reader:
        for _ in range(3):
            assert [reader.search(query, 10) for query in queries] == expected
            assert reader.search_lexical("text number 7", 5) == index.search_lexical("text number 7", 5)
        assert "_every_chunk" in reader._snapshot.__dict__


def test_a_derived_folder_that_is_missing_is_made_again(make_index, fill):
    index = make_index()
    fill(index, 20)
    wanted = index.search_lexical("number", 5)
    index.close()
    (folder,) = (index.path / "lexical").iterdir()
    folder.rename(index.path.parent / "gone")  # not deleted: a thread of tantivy may still be closing its files
    with Index.open(index.path) as reader, pytest.warns(DamageWarning):
        assert reader.search_lexical("number", 5) == wanted
    with Index.open(index.path) as reader:
        with pytest.warns(DamageWarning, match="rebuilding"):
            fill(reader, 1, start=20)
        assert reader.verify() == []
        assert len(reader.search_lexical("number", 100)) == 21


@pytest.mark.parametrize("path", [".", "../here", ""])
def test_the_folder_that_one_is_in_is_not_replaced(fast_path, monkeypatch, path):
    (fast_path / "here").mkdir()
    monkeypatch.chdir(fast_path / "here")
    with pytest.raises(IndexExistsError, match=r"is the folder that you are in; take another path$"):
        Index.create(path, dimension=2, encoder={"name": "test", "fingerprint": "0"})
    assert list(fast_path.rglob("*")) == [fast_path / "here"]


def test_an_index_that_cannot_be_made_leaves_nothing(fast_path, monkeypatch):
    def fail(*_):
        raise IndexWriteError("store.db: database or disk is full")

    monkeypatch.setattr("llm2comp_indexes.index.create_store", fail)
    with pytest.raises(IndexWriteError, match=r"new\.index: cannot be created: store\.db: .*full"):
        Index.create(fast_path / "new.index", dimension=2, encoder={"name": "test", "fingerprint": "0"})
    assert list(fast_path.iterdir()) == []


def test_a_manifest_that_names_a_path_is_refused(make_index, fill):
    index = make_index()
    fill(index, 3)
    index.close()
    connection = connect_writer(index.path)
    connection.execute("UPDATE files SET name = '../' || name")
    connection.close()
    with pytest.raises(IndexDamagedError, match="names a file"):
        Index.open(index.path)


def test_what_a_compaction_replaced_is_gone_at_once(make_index, fill):
    index = make_index()
    fill(index, 3)
    fill(index, 3, start=3)
    index.compact()
    assert [len(list((index.path / folder).iterdir())) for folder in ("segments", "lexical", "tmp")] == [1, 1, 0]


@pytest.mark.parametrize("lost", [1, 700, 4000, 4096, 9000])
def test_a_store_that_was_cut_off_is_refused(make_index, fill, lost):
    index = make_index()
    fill(index, 50)
    index.close()
    store = index.path / "store.db"
    store.write_bytes(store.read_bytes()[:-lost])
    with pytest.raises(IndexDamagedError):
        Index.open(index.path)


def test_a_lexical_hit_without_vectors_is_damage_and_no_other_document(make_index, fill):
    index = make_index("a", 8)
    fill(index, 5)
    known = index._snapshot.nums
    assert [hit.id for hit in index._snapshot.lexical_hits(known[:1], np.ones(1, np.float32))]
    for number in (known.max() + 1, known.min() - 1):
        with pytest.raises(IndexDamagedError, match="without vectors"):
            index._snapshot.lexical_hits(np.array([number]), np.ones(1, np.float32))
