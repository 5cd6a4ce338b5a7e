"""Operators in queries: what is one, what is text, and which documents they keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm2comp_indexes import Index, IndexedDocument, parse_query
from llm2comp_indexes.errors import OutdatedWarning


@pytest.mark.parametrize(
    ("query", "text", "clauses"),
    [
        ('"cell division" mitosis', "cell division mitosis", ['"cell division"']),
        ("+protein -mouse folding", "protein folding", ["+protein", "-mouse"]),
        ("title:review heart", "review heart", ["title:review"]),
        ('title:"cell cycle" x', "cell cycle x", ['title:"cell cycle"']),
        ('x -"in vitro" -title:old', "x", ['-"in vitro"', "-title:old"]),
        ("neuro* disease", "neuro disease", ["neuro*"]),
        ('what does "AND" mean?', "what does AND mean?", ['"AND"']),
        ("+C++ -C# templates", "C++ templates", ["+C++", "-C#"]),
        ("x-ray -ray", "x-ray", ["-ray"]),
        ("“cell division” mitosis", "cell division mitosis", ['"cell division"']),
        ("„in vitro“ -title:“a rat”, mice", "in vitro , mice", ['"in vitro"', '-title:"a rat"']),
        ('"he said “go” then"', "he said “go” then", ['"he said “go” then"']),
    ],
)
def test_operators_are_found(query, text, clauses):
    parsed = parse_query(query)
    assert (parsed.text, [str(clause) for clause in parsed.clauses]) == (text, clauses)
    assert parse_query(" ".join(clauses) + " more").clauses == parsed.clauses  # what is shown can be typed


@pytest.mark.parametrize(
    "query",
    [
        *("C++", "C#", ".NET core", "foo:bar", "AND", "a OR b", "NOT", "-5 degrees", "+1 vote", "ls -l", "--help"),
        *(
            '5" disk 3"',
            'say "hi',
            '""',
            "*args **kwargs",
            "c*",
            "a*b",
            "-mouse",
            '-mouse -"a rat"',
            "title: foo",
            "a+b",
            "“”",
            "say “hi",
            "half”open“ ends”",
        ),
        *("co-operate", "rock'n'roll", "(a) - b", "x -", "http://a.b/c?d=e"),
    ],
)
def test_what_is_not_plainly_an_operator_is_text(query):
    assert parse_query(query) == parse_query("").__class__(query)


@given(st.text(alphabet='ab "“”„+-*:()title.C#', max_size=40))
def test_any_text_parses(query):
    parsed = parse_query(query)
    assert parsed.clauses or parsed.text == query
    assert all(clause.text.strip() for clause in parsed.clauses)


DOCUMENTS = {
    "order": ("Biology", "The cells divided into two; division of a cell takes an hour."),
    "phrase": ("Cell division", "How one becomes two."),
    "mouse": ("A review", "Cell division in the mouse brain: neurons and neural nets."),
    "cpp": ("Languages", "We program in C++ and Rust."),
    "c": ("Languages", "We program in C, and know C# by name."),
    "running": ("Sport", "Running shoes run."),
    "ran": ("Sport", "He runs."),
}


@pytest.fixture
def index(make_index) -> Index:
    made = make_index(dimension=2)
    rows = [IndexedDocument(name, text, title, {"long": len(text) > 40}) for name, (title, text) in DOCUMENTS.items()]
    with made.writer() as writer:
        writer.add(rows, np.eye(len(rows), 2) + 0.1)
        writer.commit()
    return made


def found(index: Index, query: str, **settings) -> set[str]:
    parsed = parse_query(query)
    return {hit.id for hit in index.search_lexical(parsed.text, 10, clauses=parsed.clauses, **settings)}


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ('"cell division"', "phrase mouse"),
        ('"cells division"', "phrase mouse"),
        ("cell +division", "order phrase mouse"),
        ("cell -mouse", "order phrase"),
        ('cell -"cell division"', "order"),
        ("title:division cell", "phrase"),
        ('title:"cell division"', "phrase"),
        ("-title:review cell", "order phrase"),
        ("neur*", "mouse"),
        ("title:divi*", "phrase"),
        ("+neur* cell", "mouse"),
        ("C++", "cpp"),
        ("C", "c"),
        ("c#", "c"),
        ('"running"', "running"),
        ("running", "running ran"),
        ("+unheard cell", ""),
    ],
)
def test_documents_that_meet_them(index, query, ids):
    assert found(index, query) == set(ids.split())
    demands = parse_query(query).demands
    nearest = {hit.id for hit in index.search([1.0, 0.0], 10, clauses=demands)[0]}
    assert nearest >= set(ids.split()) if demands else nearest == set(DOCUMENTS)
    if demands and "cell" in query:
        assert {hit.id for hit in index.search([1.0, 0.0], 10, clauses=demands, exact=True)[0]} == nearest


@pytest.mark.parametrize("most", [1000, 0])
@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("title:activit*", "mail"),
        ("title:activi*", "mail activists"),
        ('title:"running"', "mail"),
        ('title:"runs"', ""),
        ("+e-mai* running", "mail"),
        ("+foo_b* running", "mail"),
        ("title:running-act*", "mail"),
        ("running -beaux-a*", "activists"),
    ],
)
def test_beginnings_of_words_with_hyphens_and_of_stemmed_ones(make_index, monkeypatch, query, ids, most):
    monkeypatch.setattr("llm2comp_indexes.lexical._MOST_BEGUN", most)  # beyond it, order does not count
    index = make_index(dimension=2)
    rows = [
        IndexedDocument("mail", "An e-mail about beaux-arts and foo_bar.", "Running activities"),
        IndexedDocument("activists", "Emails for the main hall, running to Beaune.", "Activists"),
    ]
    with index.writer() as writer:
        writer.add(rows, np.eye(2))
        writer.commit()
    assert found(index, query) == set(ids.split())


def test_the_words_of_a_beginning_stand_in_order(make_index):
    index = make_index(dimension=2)
    with index.writer() as writer:
        writer.add([IndexedDocument("a", "the e-mail"), IndexedDocument("b", "the main letter e")], np.eye(2))
        writer.commit()
    assert found(index, "the +e-mai*") == {"a"}
    assert found(index, "the -e-mai*") == {"b"}


def test_they_join_with_conditions(index):
    assert found(index, "cell -mouse", where="long = true") == {"order"}
    (hits,) = index.search([1.0, 0.0], 10, where="long = true", clauses=parse_query("-mouse cell").demands)
    assert [hit.id for hit in hits] == ["order"]


def test_a_demand_gives_no_score(index):
    plain = {hit.id: hit.score for hit in index.search_lexical("cell division", 10)}
    parsed = parse_query("cell +division -running")
    demanding = {hit.id: hit.score for hit in index.search_lexical(parsed.text, 10, clauses=parsed.clauses)}
    assert demanding == pytest.approx(plain)


def test_words_of_an_older_version_are_searched_as_far_as_they_go(index, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("llm2comp_indexes.lexical.ANALYSIS", 2)
        patch.setattr("llm2comp_indexes.lexical.analyzer", lambda language, version=2: old_analyzer(language, 2))
        index.compact()
    with Index.open(index.path) as reader:
        assert found(reader, "cells") == {"order", "phrase", "mouse"}  # and no warning
        assert found(reader, "C++") == {"cpp", "c"}
        with pytest.warns(OutdatedWarning, match="operators find more"):
            assert found(reader, '"cell division"') == {"order", "phrase", "mouse"}
    index.compact()
    assert found(index, '"cell division"') == {"phrase", "mouse"}
    assert found(index, "C++") == {"cpp"}


def old_analyzer(language: str, version: int):
    from llm2comp_indexes.analysis import analyzer

    return analyzer(language, version)
