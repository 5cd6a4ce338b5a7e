"""Looking into indexes."""

from __future__ import annotations

import pytest

from llm2comp_apps import Collection, Document
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.looking import field_facts, field_lines, indexes_in, indexes_table, one_document


@pytest.fixture
def library(tmp_path, hash_encoder):
    rows = [
        {"year": 1990 + n, "lang": "en" if n % 3 else "de", "open": True, "by": {"name": f"N{n}"}} for n in range(9)
    ]
    with Collection.create(tmp_path / "a.index", encoder=hash_encoder) as made:
        made.update([Document(f"d{n}", f"Text {n}.", metadata=row) for n, row in enumerate(rows)])
        yield made


def test_fields_are_described_by_type_and_value(library):
    assert list(field_lines(library.index.fields())) == [
        "by.name: text in 9 of 9 documents, all different, such as N0",
        "lang: text in 9 of 9 documents: en (6), de (3)",
        "open: true or false in 9 of 9 documents: true (9)",
        "year: number in 9 of 9 documents, from 1990 to 1998",
    ]
    lang = field_facts(library.index.fields())[1]
    assert lang == {
        "name": "lang",
        "documents": 9,
        "types": {"text": 9},
        "different": 2,
        "values": [{"value": "en", "count": 6}, {"value": "de", "count": 3}],
    }


def test_fields_that_are_too_many_to_list_are_told_so(library):
    library.update([Document("votes", "Text.", metadata={"votes": {f"user{n}": 1 for n in range(300)}})])
    assert list(field_lines(library.index.fields()))[-2:] == [
        "votes: object in 1 of 10 documents, with too many fields inside to list",
        "year: number in 9 of 10 documents, from 1990 to 1998",
    ]
    library.update([Document("wide", "Text.", metadata={f"f{n}": 1 for n in range(1000)})])
    assert list(field_lines(library.index.fields()))[-1] == "(no more than 1,000 fields are described)"


def test_one_document(library):
    assert one_document(library.index, "d3").text == "Text 3."
    with pytest.raises(UsageError, match=r"'d33' is not the id of a document in .*a.index"):
        one_document(library.index, "d33")


def test_indexes_of_a_folder(library, tmp_path):
    (tmp_path / "b.index").mkdir()
    first, second = indexes_in(tmp_path)
    assert (first.info.documents, first.reason) == (9, "")
    assert second.info is None
    assert second.reason
    rows = indexes_table([first, second]).rows
    assert [row[:2] for row in rows] == [("a.index", "9"), ("b.index", "")]
    with pytest.raises(UsageError, match="no such folder"):
        indexes_in(tmp_path / "none")
