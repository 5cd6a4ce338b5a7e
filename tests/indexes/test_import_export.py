"""Vectors and documents to and from files that other programs read."""

from __future__ import annotations

import datetime
import decimal
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from llm2comp_indexes import (
    IndexedDocument,
    IndexWriteError,
    InputError,
    export_index,
    import_vectors,
    read_parquet,
    read_parquet_settings,
    read_vectors,
    unread_columns,
)
from llm2comp_indexes.storage import fs


@pytest.fixture
def filled(make_index, fill):
    index = make_index()
    fill(index, 40, chunks=3)
    with index.writer() as writer:
        writer.delete(["d5", "d6"])
        writer.commit()
    return index


def rows(index) -> list[tuple[str, tuple[int, int] | None]]:
    return [(doc.id, span) for doc in index.get(list(index.ids())) for span in doc.spans or (None,)]


def test_numpy_export_holds_the_stored_vectors(filled, fast_path):
    target = fast_path / "vectors.npy"
    assert export_index(filled, target) == len(rows(filled))
    exported = np.load(target)
    assert exported.dtype == np.float32
    np.testing.assert_array_equal(exported, filled.vectors(list(filled.ids())))
    lines = [json.loads(line) for line in (fast_path / "vectors.ids.jsonl").read_text().splitlines()]
    assert [(line["id"], (line["start"], line["end"]) if "start" in line else None) for line in lines] == rows(filled)


def test_faiss_export_is_searched_by_plain_faiss(filled, fast_path):
    import faiss

    assert export_index(filled, fast_path / "plain.faiss") == len(rows(filled))
    plain = faiss.read_index(str(fast_path / "plain.faiss"))
    query = np.random.default_rng(3).standard_normal((1, 8)).astype(np.float32)
    query /= np.linalg.norm(query)
    scores, positions = plain.search(query, 1)
    best = filled.search(query, 1)[0][0]
    assert rows(filled)[positions[0, 0]] == (best.id, best.span)
    assert scores[0, 0] == pytest.approx(best.score, abs=1e-3)


def test_parquet_goes_out_and_comes_back(filled, make_index, fast_path):
    target = fast_path / "all.parquet"
    assert export_index(filled, target) == len(rows(filled))
    copy = make_index("copy")
    with copy.writer() as writer:
        for documents, vectors in read_parquet(target, batch=7):
            writer.add(documents, vectors)
        writer.commit()
    names = list(filled.ids())
    assert list(copy.ids()) == names
    assert copy.get(names) == filled.get(names)
    np.testing.assert_allclose(copy.vectors(names), filled.vectors(names), atol=1e-3)


def test_texts_of_many_chunks_are_written_and_read_in_bounded_pieces(make_index, fast_path, monkeypatch):
    monkeypatch.setattr("llm2comp_indexes.core.import_export._CHARACTERS", 20_000)
    lengths = [1_000, 9_000, 9_000, 5_000, 200, 1_000]  # with a chunk for each 1,000, and of 9,000 three pieces
    texts = [f"{number} ".ljust(length, "x") for number, length in enumerate(lengths)]
    documents = [
        IndexedDocument(f"d{number}", text, "T", {"n": number}, tuple((at, at + 9) for at in range(0, len(text), 1000)))
        for number, text in enumerate(texts)
    ]
    count = sum(document.rows for document in documents)
    index, target = make_index(), fast_path / "all.parquet"
    with index.writer() as writer:
        writer.add(documents, np.random.default_rng(0).standard_normal((count, 8)))
        writer.commit()
    assert export_index(index, target) == count
    with pq.ParquetFile(target) as file:
        groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
        assert max(sum(map(len, group["text"].to_pylist())) for group in groups) <= 20_000
        every = pa.concat_tables(groups)
        text = file.schema_arrow.names.index("text")
        assert all(file.metadata.row_group(n).column(text).total_uncompressed_size < 19_000 for n in range(len(groups)))
    assert every.schema.field("text").type == pa.string()
    assert every["text"].to_pylist() == [document.text for document in documents for _ in document.spans]
    assert every["start"].to_pylist() == [at for doc in documents for at, _ in doc.spans]
    monkeypatch.setattr("llm2comp_indexes.core.import_export._BYTES", 1)  # a row at a time
    blocks = list(read_parquet(target, batch=7))
    assert [document for found, _ in blocks for document in found] == index.get(list(index.ids()))
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in blocks]), index.vectors(list(index.ids())))


def test_what_arrow_refuses_is_one_line_and_leaves_the_old_export(filled, fast_path, monkeypatch):
    def refuse(*_):
        raise pa.ArrowCapacityError("array cannot contain more than 2147483646 bytes")

    target = fast_path / "all.parquet"
    target.write_bytes(b"old")
    monkeypatch.setattr(pq.ParquetWriter, "write_batch", refuse)
    with pytest.raises(IndexWriteError, match=r"all\.parquet: cannot be written: array cannot contain more than"):
        export_index(filled, target)
    assert target.read_bytes() == b"old"


def test_parquet_keeps_the_settings(make_index, fill, fast_path):
    index = make_index(settings={"language": "german", "chunk": 64})
    fill(index, 3)
    export_index(index, fast_path / "all.parquet")
    assert read_parquet_settings(fast_path / "all.parquet") == index.settings


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [(None, {}), (b"{", "cannot be read"), (b"[1]", "no JSON object")],
)
def test_settings_of_other_programs_are_not_ours(fast_path, metadata, expected):
    target = fast_path / "other.parquet"
    table = pa.table({"id": ["a"], "vector": [[1.0, 2.0]]})
    pq.write_table(table.replace_schema_metadata(metadata and {"llm2comp.settings": metadata}), target)
    if isinstance(expected, dict):
        assert read_parquet_settings(target) == expected
    else:
        with pytest.raises(InputError, match=expected):
            read_parquet_settings(target)


def test_ready_vectors_are_imported_from_a_memory_map(make_index, fast_path):
    vectors = np.random.default_rng(0).standard_normal((50, 8))
    np.save(fast_path / "ready.npy", vectors)
    index = make_index()
    documents = [IndexedDocument(f"d{i}", "t", spans=((0, 1), (1, 2))) for i in range(25)]
    assert import_vectors(index, iter(documents), read_vectors(fast_path / "ready.npy"), batch=4) == 25
    assert index.search(vectors[11], 1)[0][0].id == "d5"


@pytest.mark.parametrize("count", [9, 11])
def test_an_import_with_too_few_or_too_many_vectors_adds_nothing(make_index, count):
    index = make_index()
    documents = [IndexedDocument(f"d{i}", "t") for i in range(10)]
    with pytest.raises(InputError, match=f"vectors: {count} rows"):
        import_vectors(index, documents, np.ones((count, 8)), batch=3)
    assert len(index) == 0


@pytest.mark.parametrize("content", [b"not an array", b""])
def test_files_that_are_no_vectors_are_refused(fast_path, content):
    for name, read in (("x.npy", read_vectors), ("x.parquet", lambda path: list(read_parquet(path)))):
        (fast_path / name).write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as"):
            read(fast_path / name)
    np.save(fast_path / "words.npy", np.array(["a", "b"]))
    with pytest.raises(InputError, match="where a matrix of numbers is needed"):
        read_vectors(fast_path / "words.npy")


def test_parquet_of_other_programs_is_read_as_far_as_it_goes(fast_path):
    path, vector = fast_path / "theirs.parquet", [1.0, 0.0]
    rows = [{"id": 1, "title": 7, "text": "one", "metadata": {"year": 2020}, "start": 0, "vector": vector}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    ((documents, vectors),) = read_parquet(path)
    assert documents == [IndexedDocument("1", "one", "7", {"year": 2020})]
    assert vectors.tolist() == [vector]
    for rows, message in (
        ([{"id": None, "vector": vector}, {"id": "a", "vector": vector}], "row 1 has no id"),
        ([{"id": "a", "vector": vector}, {"id": "", "vector": vector}], "row 2 has no id"),
        ([{"id": "a", "vector": vector}] * 2, "the id 'a' stands on 2 rows, without start and end"),
    ):
        pq.write_table(pa.Table.from_pylist(rows), path)
        with pytest.raises(InputError, match=rf"theirs\.parquet: {message}"):
            list(read_parquet(path))


def test_texts_that_are_written_as_bytes_are_texts(fast_path):
    columns = {name: [f"caf\N{LATIN SMALL LETTER E WITH ACUTE} {name}".encode()] for name in ("id", "title", "text")}
    pq.write_table(pa.table({**columns, "content_hash": [b"\xff"], "vector": [[1.0]]}), fast_path / "x.parquet")
    (((document,), _),) = read_parquet(fast_path / "x.parquet")
    assert (document.id, document.title, document.text) == tuple(columns[name][0].decode() for name in columns)
    assert document.content_hash == ""


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([1.0, 2.0], "'a' is no list of numbers"),
        (["[1.0]", "[2.0]"], "'a' is no list of numbers"),
        ([{"x": 1.0}, {"x": 2.0}], "'a' is no list of numbers"),
        (pa.array([None, None], pa.list_(pa.float32())), "'a' is no list of numbers"),
        ([[1.0, 2.0], None], "'b' is no list of 2 numbers"),
        ([[1.0, 2.0], [1.0]], "'b' is no list of 2 numbers"),
    ],
    ids=["numbers", "texts", "structs", "nothing", "nothing later", "another width"],
)
def test_what_is_no_vector_is_named(fast_path, vectors, message):
    pq.write_table(pa.table({"id": ["a", "b"], "vector": vectors}), fast_path / "x.parquet")
    with pytest.raises(InputError, match=rf"x\.parquet: the vector of the id {message}$"):
        list(read_parquet(fast_path / "x.parquet"))


def test_further_columns_are_metadata(fast_path):
    path = fast_path / "theirs.parquet"
    year, moment = datetime.date(2020, 5, 1), datetime.datetime(2020, 5, 1, 12, 30)
    table = {
        "id": ["a", "b"],
        "year": [2020, None],
        "day": [year, year],
        "moment": pa.array([1_588_336_200_000_000_001, 0], pa.timestamp("ns")),
        "took": pa.array([1_500_000_001, None], pa.duration("ns")),
        "opens": pa.array([1_500_000_001, None], pa.time64("ns")),
        "price": [decimal.Decimal("1.50"), None],
        "score": [float("nan"), 0.5],
        "tags": [["x", "y"], []],
        "place": [{"city": "Ulm"}, None],
        "picture": [b"\xff", b""],
        "pictures": [[b"\xff"], []],
        "metadata": ['{"year": 1999}', None],
        "vector": [[1.0, 0.0], [0.0, 1.0]],
        "embedding": [[5.0], [6.0]],
    }
    pq.write_table(pa.table(table), path)
    (((first, second), vectors),) = read_parquet(path)
    assert first.metadata == {
        "year": 1999,  # what the file calls metadata wins
        "day": "2020-05-01",
        "moment": moment.isoformat(),
        "took": "0:00:01.500000",
        "opens": "00:00:01.500000",
        "price": "1.50",
        "score": None,
        "tags": ["x", "y"],
        "place": {"city": "Ulm"},
        "embedding": [5.0],
    }
    assert (second.metadata["year"], second.metadata["score"]) == (None, 0.5)
    assert vectors.tolist() == table["vector"]
    assert unread_columns(path) == ["picture", "pictures"]


NOON = datetime.datetime(2020, 5, 1, 12)


@pytest.mark.parametrize(
    ("start", "end", "spans", "metadata"),
    [
        (12.5, 15.0, (), {"start": 12.5, "end": 15.0}),
        (12.0, 15.0, (), {"start": 12.0, "end": 15.0}),  # beyond the text
        (1000, 2000, (), {"start": 1000, "end": 2000}),
        (4, 2, (), {"start": 4, "end": 2}),
        (-1, 2, (), {"start": -1, "end": 2}),
        (NOON, NOON, (), {"start": NOON.isoformat(), "end": NOON.isoformat()}),
        (NOON, None, (), {"start": NOON.isoformat()}),
        ("09:00", "10:00", (), {"start": "09:00", "end": "10:00"}),
        (False, True, (), {"start": False, "end": True}),
        (float("nan"), float("nan"), (), {}),  # what pandas makes of an empty cell ...
        (0.0, 5.0, ((0, 5),), {}),  # ... and of the others
        (1, 5, ((1, 5),), {}),
    ],
)
def test_start_and_end_are_chunks_only_where_they_are_places_in_the_text(fast_path, start, end, spans, metadata):
    path = fast_path / "theirs.parquet"
    pq.write_table(pa.table({"id": ["a"], "text": ["hello"], "start": [start], "end": [end], "vector": [[1.0]]}), path)
    (((document,), _),) = read_parquet(path)
    assert document == IndexedDocument("a", "hello", metadata=metadata, spans=spans)


@pytest.mark.parametrize(("starts", "fit"), [([0, 3], True), ([3, 0], False)])
def test_chunks_of_other_programs_are_in_order(fast_path, starts, fit):
    path = fast_path / "theirs.parquet"
    table = {"id": ["a"] * 2, "text": ["hello"] * 2, "start": starts, "end": [each + 2 for each in starts]}
    pq.write_table(pa.table({**table, "vector": [[1.0], [2.0]]}), path)
    if fit:
        assert [document.spans for documents, _ in read_parquet(path) for document in documents] == [((0, 2), (3, 5))]
    else:
        with pytest.raises(
            InputError, match="the id 'a' stands on 2 rows, without start and end of chunks in its text"
        ):
            list(read_parquet(path))


def test_chunks_of_a_file_without_texts_are_kept(fast_path):
    path = fast_path / "theirs.parquet"
    pq.write_table(pa.table({"id": ["a"] * 2, "start": [0, 5], "end": [5, 9], "vector": [[1.0]] * 2}), path)
    assert [document.spans for documents, _ in read_parquet(path) for document in documents] == [((0, 5), (5, 9))]


def test_years_beyond_those_of_python_are_text_or_nothing(fast_path):
    path = fast_path / "theirs.parquet"
    moments = pa.array([0, 253_402_300_800, 1 << 40], pa.timestamp("s"))
    pq.write_table(pa.table({"id": ["a", "b", "c"], "at": moments, "vector": [[1.0]] * 3}), path)
    ((documents, _),) = read_parquet(path)
    assert [document.metadata["at"] for document in documents] == [
        "1970-01-01T00:00:00", "10000-01-01 00:00:00.000", None,
    ]  # fmt: skip


def test_vectors_may_be_called_embedding(fast_path):
    path = fast_path / "theirs.parquet"
    pq.write_table(pa.table({"id": ["a"], "embedding": [[1.0, 0.0]]}), path)
    assert [(documents, vectors.tolist()) for documents, vectors in read_parquet(path)] == [
        ([IndexedDocument("a", "")], [[1.0, 0.0]])
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"], "vec": [[1.0]]}, r"has no column vector or embedding \(its columns: id, vec\)"),
        ({"key": ["a"], "vector": [[1.0]]}, r"has no column id \(its columns: key, vector\)"),
    ],
)
def test_a_missing_column_is_named(fast_path, columns, message):
    pq.write_table(pa.table(columns), fast_path / "x.parquet")
    with pytest.raises(InputError, match=message):
        list(read_parquet(fast_path / "x.parquet"))


def test_an_export_into_a_folder_that_is_not_there_names_it(filled, fast_path):
    with pytest.raises(InputError, match=r"there is no folder .*nowhere; make it first"):
        export_index(filled, fast_path / "nowhere" / "out.npy")


def test_an_unknown_suffix_is_refused(filled, fast_path):
    with pytest.raises(InputError, match=r"take one of \.npy, \.parquet, \.faiss"):
        export_index(filled, fast_path / "out.txt")


@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".faiss"])
def test_a_full_disk_leaves_the_old_export(filled, fast_path, suffix):
    target = fast_path / f"out{suffix}"
    target.write_bytes(b"old")

    def fail(operation, path, size):
        if operation == "write":
            raise OSError(28, "No space left on device", str(path))
        return size

    with fs.observed(fail), pytest.raises(IndexWriteError, match="No space left on device"):
        export_index(filled, target)
    assert target.read_bytes() == b"old"
    assert [path.name for path in fast_path.iterdir() if path != filled.path] == [target.name]


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ("from Wikipedia", {"metadata": "from Wikipedia"}),
        ("2024", {"metadata": "2024"}),
        ("[1]", {"metadata": "[1]"}),
        ('{"year": 1999}', {"year": 1999}),
        ("", {}),
        (None, {}),
    ],
)
def test_what_another_program_calls_metadata_is_kept(fast_path, held, expected):
    table = pa.table({"id": ["a"], "vector": [[1.0, 0.0]], "metadata": pa.array([held], pa.string())})
    pq.write_table(table, fast_path / "x.parquet")
    (((document,), _),) = read_parquet(fast_path / "x.parquet")
    assert document.metadata == expected


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ([{"a": float("nan"), "b": [float("inf")]}], {"a": None, "b": [None]}),
        (['{"a": NaN, "b": [-Infinity, 1.5]}'], {"a": None, "b": [None, 1.5]}),
        ([{"day": datetime.date(2024, 6, 1), "cost": decimal.Decimal("1.5")}], {"day": "2024-06-01", "cost": "1.5"}),
    ],
)
def test_metadata_of_other_programs_are_what_further_columns_would_be(fast_path, held, expected):
    pq.write_table(pa.table({"id": ["a"], "vector": [[1.0]], "metadata": held}), fast_path / "p.parquet")
    (((document,), _),) = read_parquet(fast_path / "p.parquet")
    assert document.metadata == expected


@pytest.mark.parametrize("suffix", [".npy", ".faiss"])
def test_vectors_are_not_replaced_without_their_ids(filled, fast_path, suffix):
    target, ids = fast_path / f"old{suffix}", fast_path / "old.ids.jsonl"
    target.write_bytes(b"old")
    ids.write_bytes(b"old")

    def fail(operation, path, size):
        if operation == "write" and ".ids.jsonl" in path.name:
            raise OSError(28, "No space left on device", str(path))
        return size

    with fs.observed(fail), pytest.raises(IndexWriteError, match="No space left on device"):
        export_index(filled, target)
    assert (target.read_bytes(), ids.read_bytes()) == (b"old", b"old")
    ids.unlink()
    ids.mkdir()
    with pytest.raises(IndexWriteError, match="Is a directory"):
        export_index(filled, target)
    assert target.read_bytes() == b"old"
    assert {path for path in fast_path.iterdir() if path != filled.path} == {ids, target}
