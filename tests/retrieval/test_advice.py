"""What is worth a word before a search, and what is not."""

from __future__ import annotations

import pytest

from llm2comp_apps import Collection, Document
from llm2comp_apps.retrieval.advice import search_notes, search_warnings, shown_warnings
from llm2comp_apps.retrieval.options import SearchOptions


@pytest.fixture(params=[True, False])
def index(request, tmp_path, hash_encoder):
    with Collection.create(tmp_path / "a.index", encoder=hash_encoder, memory=request.param) as made:
        made.update([Document(str(n), f"Cells divide {n}.", metadata={"year": n}) for n in range(12)])
        yield made.index


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"k": 12}, None),
        ({"k": 13}, "all of them"),
        ({"k": 13, "mode": "lexical"}, "all that match"),
        ({"k": 13, "where": "year > 3"}, "all that match"),
    ],
)
def test_more_hits_than_documents(index, settings, told):
    lines = search_notes(index, SearchOptions(**settings))
    assert lines == ([] if told is None else [f"12 documents in the index; `k` 13 gives {told}"])


def test_fields_that_no_document_has(index):
    assert search_warnings(index, SearchOptions(where="year > 3")) == []
    (line,) = search_warnings(index, SearchOptions(where="yaer > 3"))
    assert line.startswith("`where`: no document has a field 'yaer', did you mean 'year'?")


def test_fields_to_be_shown_that_no_document_has(index):
    assert shown_warnings(index, ["year", "_id", "a name with blanks"]) == []
    (line,) = shown_warnings(index, ["year", "yaer"])
    assert line.startswith("`show`: no document has a field 'yaer', did you mean 'year'?")


def test_memory_vectors_that_are_not_stored(index):
    assert search_warnings(index, SearchOptions()) == []
    stored = bool(index.memory_tokens)
    assert [("stores no memory vectors" in line) for line in search_warnings(index, SearchOptions(), "memory")] == (
        [] if stored else [True]
    )


ROWS = [
    {"year": "1990", "lang": "en", "date": "2024-05-01", "name": "Wien", "n": 3},
    {"year": "1999", "lang": "de", "date": "2024-07-01", "name": "Graz", "n": 5},
    *({"lang": "en", "n": 4} for _ in range(30)),
]


@pytest.mark.parametrize(
    ("where", "lines"),
    [
        ("lang = 'en'", []),
        ("lang = 'EN'", ["no document meets lang = 'EN': capitals and blanks count, and there is 'en'"]),
        (
            "lang in ('fr', ' de ')",
            ["no document meets lang in ('fr', ' de '): capitals and blanks count, and there is 'de'"],
        ),
        ("lang > 5", ["no document meets lang > 5: 'lang' holds text, such as 'en', 'de', and 5 is a number"]),
        ("n > 100 and lang = 'en'", ["no document meets n > 100: 'n' holds numbers, from 3 to 5"]),
        ("n = 'x'", ["no document meets n = 'x': 'n' holds numbers, from 3 to 5"]),
        ("lang = 'eng'", ["no document meets lang = 'eng': did you mean 'en'?"]),
        (
            "lang > 2024-01-01",
            ["no document meets lang > 2024-01-01: 'lang' holds no dates that can be read, but 'en', 'de'"],
        ),
        (
            "lang = 'de' and n = 3",
            ["no document meets all of it; alone, its conditions are met by some: lang = 'de' (1), n = 3 (1)"],
        ),
        (
            "date > 2024",
            [
                "no document meets date > 2024: 'date' holds dates, such as '2024-05-01', '2024-07-01'; a date is "
                "typed as 2024-06-01 (and only 2 of 32 documents have a field 'date')"
            ],
        ),
        (
            "date > 2025-01-01",
            [
                "no document meets date > 2025-01-01: 'date' holds dates, from '2024-05-01' to '2024-07-01' "
                "(and only 2 of 32 documents have a field 'date')"
            ],
        ),
        (
            "name = 'Linz'",
            [
                "no document meets name = 'Linz': 'name' holds 'Graz', 'Wien' "
                "(and only 2 of 32 documents have a field 'name')"
            ],
        ),
        ("_id = 'A1'", ["no document meets _id = 'A1': capitals and blanks count, and there is 'a1'"]),
    ],
)
def test_a_condition_that_meets_nothing_says_why(tmp_path, hash_encoder, where, lines):
    documents = [Document(f"a{place}", "Cells divide.", metadata=row) for place, row in enumerate(ROWS)]
    with Collection.create(tmp_path / "a.index", encoder=hash_encoder) as made:
        made.update(documents)
        assert search_warnings(made.index, SearchOptions(where=where)) == [f"`where`: {line}" for line in lines]
        if lines:
            assert made.delete(where=where).warnings == [f"`where`: {line}" for line in lines]
            assert len(made) == len(documents)
