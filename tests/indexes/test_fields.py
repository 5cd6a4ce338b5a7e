"""What is told of metadata fields."""

from __future__ import annotations

import contextlib
import json
import sys
import threading

import numpy as np
import pytest
from llm2comp_indexes import MOST_FIELDS, FilterError, Index, IndexedDocument, InputError
from llm2comp_indexes.storage.store import connect_writer


@pytest.fixture
def index_of(make_index):
    """Makes an index of documents with this metadata."""

    def made(*rows, name="test.index"):
        index = make_index(name, dimension=2)
        with index.writer() as writer:
            writer.add([IndexedDocument(f"d{n}", "text", metadata=row) for n, row in enumerate(rows)],
                       np.ones((len(rows), 2)))  # fmt: skip
            writer.commit()
        return index

    return made


def test_all_fields_are_told_as_each_alone(index_of):
    values = [1, 1.0, True, "1", None, [], [1, "a", [2], {"x": 1}, None, 2.5, False], {}, "ä", "z", -0.5, "z"]
    rows = [{"a": value, "by": {"name": value, "more": {"deep": value}}} for value in values]
    rows += [{"by": {"more": {"deep": {"deeper": 1}}}, 'q"': 1, "b\\": {"c": 1}, "": 3, "a b": "c"}]
    index = index_of(*rows)
    found = index.fields()
    assert [field.name for field in found] == ["", "a", "a b", "by.more.deep", "by.name"]
    for field in found:
        alone = index.field(*field.name.split("."))
        assert field == alone
        assert repr(field) == repr(alone)  # True is no 1 there
    assert all(type(one.looked_at) is int and one.looked_at == len(rows) for one in found)


def test_a_number_beyond_the_integers_of_sqlite_is_told_as_sqlite_reads_it(index_of):
    index = index_of({"n": 10**30})
    assert index.fields()[0].values == index.field("n").values == ((1e30, 1),)


def test_names_that_are_data_are_one_field(index_of):
    rows = [{"lang": "en", "votes": {f"user{n}_{m}": m for m in range(10)}, "few": {"a": n}} for n in range(30)]
    few, lang, votes = index_of(*rows).fields()
    assert (few.name, lang.name, lang.documents) == ("few.a", "lang", 30)
    assert (votes.name, votes.documents, votes.types, votes.values) == ("votes", 30, {"object": 30}, ())


def test_no_more_fields_are_described_than_are_bounded(index_of):
    names = [field.name for field in index_of({f"n{n:05}": n for n in range(MOST_FIELDS + 5)}, {"n00003": 2}).fields()]
    assert names == [f"n{n:05}" for n in range(MOST_FIELDS)]


def test_a_name_with_a_nul_is_refused_and_one_that_is_there_hides_nothing(index_of):
    with pytest.raises(
        InputError, match=r"^document 'd0': cannot be stored: the name of the field 'a\\x00b' has a NUL"
    ):
        index_of({"c": 1, "a\0b": 2})
    index = index_of({"c": 1}, name="older.index")
    with contextlib.closing(connect_writer(index.path)) as connection:  # as versions without this check stored it
        connection.execute("UPDATE documents SET metadata = ?", (json.dumps({"a\0b": 2, "c": 1, "d": {"e\0": 3}}),))
    with Index.open(index.path) as older:
        assert [field.name for field in older.fields()] == ["c", "d"]
        assert older.get(["d0"])[0].metadata == {"a\0b": 2, "c": 1, "d": {"e\0": 3}}
        assert older.value_counts("a\0b", ["d0"]) == ()
        assert older.unknown_fields("x = 1") == {"x": ["a\0b", "c", "d"]}
        with pytest.raises(FilterError, match="a quote, backslash or NUL cannot be used"):
            list(older.ids(where='"a\0b" = 2'))


def test_a_search_goes_on_while_fields_are_read(index_of):
    index = index_of({"a": 1}, {"a": 2})
    rows = index._snapshot.metadata(10)
    assert next(rows) == '{"a":1}'
    found = []
    other = threading.Thread(target=lambda: found.extend(index.search_lexical("text", 5)), daemon=True)
    other.start()
    other.join(30)
    assert len(found) == 2
    assert len(list(rows)) == 1
    assert list(index._snapshot.metadata(1)) == ['{"a":1}']


@pytest.mark.parametrize(("depth", "fits"), [(1_000, True), (1_001, False), (100_000, False)])
def test_metadata_that_sqlite_could_not_look_into_are_refused(make_index, depth, fits):
    """Else the one document would make every condition fail; some versions of Python write as deep as that."""
    before = sys.getrecursionlimit()
    nested = {"year": 2020}
    for _ in range(depth - 1):
        nested = {"a": nested}
    index = make_index()
    try:
        sys.setrecursionlimit(5_000)
        with (
            index.writer() as writer,
            contextlib.nullcontext() if fits else pytest.raises(InputError, match=r"'a': cannot be"),
        ):
            writer.add([IndexedDocument("a", "x", metadata=nested)], np.ones((1, 8)))
            writer.commit()
    finally:
        sys.setrecursionlimit(before)
    with index.writer() as writer:
        writer.add([IndexedDocument("b", "x", metadata={"year": 2020})], np.ones((1, 8)))
        writer.commit()
    assert list(index.ids(where="year = 2020")) == ["b"]


def test_values_of_titles_and_ids_are_counted_as_a_condition_sees_them(make_index):
    rows = {"a": ("Bread", {}), "b": ("Bread", {"title": None}), "c": ("", {}), "d": ("Stars", {"title": ["Bread", 7]})}
    rows |= {"e": ("Stars", {}), "f": ("Bread", {})}
    index = make_index(dimension=2)
    with index.writer() as writer:
        documents = [IndexedDocument(id_, "text", title, own) for id_, (title, own) in rows.items()]
        writer.add(documents, np.ones((len(rows), 2)))
        writer.commit()
    among = ["a", "b", "c", "d", "e", "gone"]
    counted = index.value_counts("title", among)
    assert counted == (("Bread", 3), (7, 1), ("Stars", 1))
    for value, often in counted:
        where = f"title = {value!r} and _id in ({', '.join(map(repr, among))})"
        assert len(list(index.ids(where=where))) == often
    assert index.value_counts("_id", ["d", "a", "gone"]) == (("a", 1), ("d", 1))
    assert index.listing(limit=1, where="title = 'Stars'", fields=["title"]).counts == {"title": (("Stars", 1),)}
