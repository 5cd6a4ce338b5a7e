"""``where`` expressions against a slow interpreter of the documented rules."""

from __future__ import annotations

import fnmatch
import math
import re
from operator import eq, ge, gt, le, lt
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llm2comp_indexes import FilterError, IndexedDocument
from llm2comp_indexes.storage.filters import compile_filter

FIELDS = ["year", "lang", "tag", "a.b", "missing"]
SPELLED = ["2020", " 7 ", "1.1", "1.10", "007", f"{2**53 + 1}", f"{-(2**70)}"]
TEXTS = [*SPELLED, "en", "EN", "de", "x_y%", "it's", "", "true"]
LARGE = [2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, -(2**63) - 1, -(2**63) - 2, 10**25 + 1, -(10**25)]
SCALARS: list[Any] = [0, 1, -3, 7, 2020, 2021.5, 1.1, *LARGE, *TEXTS, True, False, None]
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


def spelled(value: Any) -> int | float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return value
    if not NUMBER.fullmatch(value):
        return None
    return int(value) if re.fullmatch(r"[+-]?\d+", value.strip()) else float(value)


def equal_or_ordered(operator: str, stored: Any, literal: Any) -> bool:
    """The rules of comparison at the top of filters.py."""
    if isinstance(literal, bool):
        word = "true" if literal else "false"
        return stored is literal or (isinstance(stored, str) and stored.lower() == word)
    if isinstance(stored, bool) or stored is None:
        return False
    left, right = stored, literal
    if not (isinstance(stored, str) and isinstance(literal, str)):
        left, right = spelled(stored), spelled(literal)
        if left is None or right is None:
            return False
    return {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}[operator](left, right)


def fold(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def like(stored: Any, pattern: str) -> bool:
    if isinstance(stored, bool) or stored is None:
        return False
    glob = re.sub(r"([\[\]*?])", r"[\1]", fold(pattern)).replace("%", "*").replace("_", "?")
    return re.fullmatch(fnmatch.translate(glob), fold(text_of(stored))) is not None


def text_of(stored: Any) -> str:
    return repr(stored) if isinstance(stored, float) else str(stored)


def lookup(metadata: dict[str, Any], field: str) -> Any:
    value: Any = metadata
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def satisfies(metadata: dict[str, Any], node: tuple) -> bool:
    kind = node[0]
    if kind == "and":
        return all(satisfies(metadata, part) for part in node[1])
    if kind == "or":
        return any(satisfies(metadata, part) for part in node[1])
    if kind == "not":
        return not satisfies(metadata, node[1])
    stored = lookup(metadata, node[1])
    if kind == "null":
        return (stored is None) != node[2]
    elements = stored if isinstance(stored, list) else [stored]
    elements = [element for element in elements if not isinstance(element, list | dict)]
    if kind == "is":
        return any(isinstance(e, str) and e in node[2] for e in elements) != node[3]
    if kind == "compare":
        if node[2] == "!=":
            return not any(equal_or_ordered("=", element, node[3]) for element in elements)
        return any(equal_or_ordered(node[2], element, node[3]) for element in elements)
    if kind == "in":
        return any(equal_or_ordered("=", e, literal) for e in elements for literal in node[2]) != node[3]
    if kind == "between":
        return any(equal_or_ordered(">=", e, node[2]) and equal_or_ordered("<=", e, node[3]) for e in elements)
    return any(like(e, node[2] if kind == "like" else f"%{node[2]}%") for e in elements)


def write(node: tuple) -> str:
    kind = node[0]
    if kind in ("and", "or"):
        return "(" + f" {kind} ".join(write(part) for part in node[1]) + ")"
    if kind == "not":
        return f"not {write(node[1])}"
    field = node[1]
    if kind == "null":
        return f"{field} is {'not ' if node[2] else ''}null"
    if kind == "is":
        texts = literal(node[2][0]) if len(node[2]) == 1 else f"in ({', '.join(map(literal, node[2]))})"
        return f"{field} is {'not ' if node[3] else ''}{texts}"
    if kind == "compare":
        return f"{field} {node[2]} {literal(node[3])}"
    if kind == "in":
        return f"{field} {'NOT ' if node[3] else ''}In ({', '.join(map(literal, node[2]))})"
    if kind == "between":
        return f"{field} between {literal(node[2])} and {literal(node[3])}"
    return f"{field} {kind} {literal(node[2])}"


def literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


literals = st.sampled_from([value for value in SCALARS if value is not None])
ordered = st.sampled_from([value for value in SCALARS if value is not None and not isinstance(value, bool)])
patterns = st.sampled_from(["en", "E%", "%20%", "2_2_", "x_y", "it's", "", "%", "x"])
pieces = st.sampled_from(["en", "20", "t's", "2", "n"])
field_names = st.sampled_from(FIELDS)
predicates = st.one_of(
    st.tuples(st.just("compare"), field_names, st.sampled_from(["=", "!="]), literals),
    st.tuples(st.just("compare"), field_names, st.sampled_from(["<", "<=", ">", ">="]), ordered),
    st.tuples(st.just("in"), field_names, st.lists(literals, min_size=1, max_size=4), st.booleans()),
    st.tuples(st.just("between"), field_names, ordered, ordered),
    st.tuples(st.just("null"), field_names, st.booleans()),
    st.tuples(st.just("is"), field_names, st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3), st.booleans()),
    st.tuples(st.just("like"), field_names, patterns),
    st.tuples(st.just("contains"), field_names, pieces),
)
expressions = st.recursive(
    predicates,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("not"), inner),
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def metadata() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)

    def pick() -> Any:
        return SCALARS[rng.integers(len(SCALARS))]

    rows = []
    for _ in range(120):
        row = {name: pick() for name in ("year", "lang") if rng.random() < 0.8}
        if rng.random() < 0.8:
            row["tag"] = [pick() for _ in range(rng.integers(0, 4))] if rng.random() < 0.7 else {"x": pick()}
        if rng.random() < 0.8:
            row["a"] = {"b": pick()} if rng.random() < 0.8 else pick()
        rows.append(row)
    return rows


@pytest.fixture
def index(make_index, metadata):
    made = make_index(dimension=2)
    documents = [IndexedDocument(str(i), "text", metadata=row) for i, row in enumerate(metadata)]
    with made.writer() as writer:
        writer.add(documents, np.random.default_rng(0).standard_normal((len(documents), 2)))
        writer.commit()
    return made


@pytest.mark.parametrize(
    ("listed", "meant"),
    [
        ("0, false", "x = 0 or x = false"),
        ("false, 0", "x = 0 or x = false"),
        ("1, true, 'a'", "x = 1 or x = true or x = 'a'"),
    ],
)
def test_true_and_false_are_no_numbers_in_a_list(make_index, listed, meant):
    values = [0, False, 1, True, "a", "b", 2]
    made = make_index(dimension=2)
    with made.writer() as writer:
        documents = [IndexedDocument(str(i), "text", metadata={"x": value}) for i, value in enumerate(values)]
        writer.add(documents, np.ones((len(values), 2)))
        writer.commit()
    found = set(made.ids(where=f"x in ({listed})"))
    assert found == set(made.ids(where=meant))
    assert len(found) == len(listed.split(","))
    assert set(made.ids(where=f"x not in ({listed})")) == set(map(str, range(7))) - found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(node=expressions)
def test_filters_select_what_the_rules_say(index, metadata, node):
    expression = write(node)
    wanted = [str(i) for i, row in enumerate(metadata) if satisfies(row, node)]
    assert list(index.ids(where=expression)) == wanted, expression


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(node=expressions, k=st.integers(1, 130))
def test_filtered_searches_return_exactly_what_matches(index, node, k):
    where = write(node)
    matching = set(index.ids(where=where))
    (hits,) = index.search([1, 1], k, where=where)
    everything = [hit.id for hit in index.search([1, 1], 1000)[0] if hit.id in matching]
    assert [hit.id for hit in hits] == everything[:k]
    lexical = index.search_lexical("text", k, where=where)
    assert len(lexical) == min(k, len(matching))
    assert {hit.id for hit in lexical} <= matching


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_either_compiles_or_is_refused_in_one_line(text):
    refusal = None
    try:
        sql = compile_filter(text).sql
    except FilterError as error:
        refusal, sql = error, ""
    assert sql or (refusal.exit_code == 2 and str(refusal).startswith("where "))


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "where is empty"),
        ("year >=", "expected a number, a date, a quoted string, true or false: year >= >>> (end)"),
        ("year = null", 'to find missing fields write "is null"'),
        ("(year = 1", 'expected ")"'),
        ("year = 1 lang = 2", 'expected "and", "or" or the end: year = 1  >>> lang = 2'),
        ("year = 'open", "is a quote left open?"),
        ("'year' = 1", "expected a field name"),
        ("year in ()", "expected a number"),
        ("date > 2024-02-30", "there is no such date"),
        ("date > 2024-06-01x", "nothing fits here"),
        ("ok > true", "can only be compared with = and !="),
        ("year like 5", "expected a quoted pattern"),
        ("year is 5", 'expected "null", "empty" or a quoted string'),
        ("year is in ('5', 5)", "expected a quoted string"),
        ('"a""b" = 1', "a field name with a quote"),
        ("(" * 100 + "a = 1" + ")" * 100, "nested parentheses"),
        (" or ".join(["a = 1"] * 201), "more than 200 conditions"),
    ],
)
def test_mistakes_are_shown_where_they_are(expression, message):
    with pytest.raises(FilterError) as error:
        compile_filter(expression)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("hostile", ["'; drop table documents; --", '") or 1=1 --', "%s", "?1", ":p0", "\0", "$.x"])
def test_nothing_in_a_filter_reaches_the_sql(index, hostile):
    quoted = literal(hostile)
    compiled = compile_filter(f"lang = {quoted} or tag in ({quoted}) or lang like {quoted}")
    assert hostile not in compiled.sql.replace(":p0", "") or hostile == ":p0"
    assert list(index.ids(where=f"lang = {quoted}")) == []
    assert len(index) == 120


def test_the_longest_allowed_filters_run(index, metadata):
    ids = ", ".join(f"'{i}'" for i in range(20_000))
    assert len(list(index.ids(where=f"_id in ({ids})"))) == len(metadata)
    assert len(list(index.ids(where="(" * 63 + "not missing = 1" + ")" * 63))) == len(metadata)
    assert len(list(index.ids(where=" and ".join(["missing != 1"] * 200)))) == len(metadata)


def test_numbers_beyond_sqlite_integers_compare(make_index):
    index = make_index(dimension=2)
    rows = [{"n": 10**30}, {"n": -(10**30)}, {"n": 2**63 - 1}, {"n": 1e308}]
    with index.writer() as writer:
        writer.add([IndexedDocument(str(i), "t", metadata=row) for i, row in enumerate(rows)], np.ones((4, 2)))
        writer.commit()
    assert list(index.ids(where="n > 9223372036854775806")) == ["0", "2", "3"]
    assert list(index.ids(where=f"n = {2**63 - 1}")) == ["2"]
    assert list(index.ids(where="n > 1e400")) == []
    assert list(index.ids(where="n in (1e400, 1e308)")) == ["3"]
    assert math.isinf(float("1e400"))


@pytest.mark.parametrize(
    ("where", "unknown"),
    [
        ("year > 1 and a.b = 2 and _id != 'x' and lang is null", {}),
        ("yaer != 2020 or not yaer = 1", {"yaer": ["a", "lang", "tag", "year"]}),
        ("a.c = 1", {"a.c": ["a.b"]}),
        ("year.month = 1 and zone = 'CET'", {name: ["a", "lang", "tag", "year"] for name in ("year.month", "zone")}),
    ],
)
def test_fields_that_no_document_has_are_named_with_those_there_are(index, where, unknown):
    assert index.unknown_fields(where) == unknown


def test_a_name_with_points_stands_in_for_what_is_not_inside_of_an_object(make_index):
    rows = {
        "flat": {"author.name": "Ada", "a.b.c": [1, 2], "author": {"born": 1815}},
        "nested": {"author": {"name": "Ada"}, "a": {"b": {"c": 2}}},
        "both": {"author": {"name": "Bob"}, "author.name": "Ada"},
        "null": {"author": {"name": None}, "author.name": "Ada"},
        "none": {"author": "Ada"},
    }
    made = make_index(dimension=2)
    with made.writer() as writer:
        documents = [IndexedDocument(name, "t", metadata=row) for name, row in rows.items()]
        writer.add(documents, np.ones((len(rows), 2)))
        writer.commit()
    for where, names in (
        ("author.name = 'Ada'", ["flat", "nested"]),
        ("author.name in ('Ada', 'Eve')", ["flat", "nested"]),
        ("author.name like 'a%'", ["flat", "nested"]),
        ("author.name is not null", ["flat", "nested", "both"]),
        ("author.name != 'Ada'", ["both", "null", "none"]),
        ("a.b.c = 2", ["flat", "nested"]),
        ("\"author.name\" = 'Ada'", ["flat", "both", "null"]),
    ):
        assert list(made.ids(where=where)) == names
        assert made.unknown_fields(where) == {}
        assert [count.documents for count in made.predicate_counts(where)] == [len(names)]
    summary = made.field("author", "name")
    assert (summary.documents, summary.values) == (3, (("Ada", 2), ("Bob", 1)))
    assert made.value_counts("author.name", list(rows)) == summary.values
    assert made.value_counts("a.b.c", list(rows)) == ((2, 2), (1, 1))
    found = made.fields()
    assert [field.name for field in found] == sorted({field.name for field in found})
    assert {field.looked_at for field in found} == {len(rows)}


def test_an_id_is_a_string_however_it_is_typed(ids_where):
    names = ["007", "7", "7.0", " 7", "123456789012345678901", "123456789012345678902", "true", "z1"]
    found = ids_where({name: {} for name in names})
    for value in ("7", "'7'", '"7"'):
        assert found(f"_id = {value}") == ["7"]
        assert found(f"_id in ({value})") == ["7"]
        assert found(f"_id between {value} and {value}") == ["7"]
        assert found(f"_id != {value}") == [name for name in names if name != "7"]
    assert found("_id = 123456789012345678901") == ["123456789012345678901"]
    assert found("_id in ('123456789012345678902', 7.0, true)") == ["7.0", "123456789012345678902", "true"]
    assert found("_id = 7.00") == []
    assert found("_id > 'z'") == ["z1"]
    assert found("_id = true") == ["true"]
    assert found("_id like '7%'") == ["7", "7.0"]


def test_what_is_in_quotes_compares_with_a_string_as_a_string(ids_where):
    values = ["1.1", "1.10", 1.1, ["2.0", "1.1"], "2"]
    found = ids_where({str(i): {"version": value} for i, value in enumerate(values)})
    assert found("version = '1.1'") == found("version in ('1.1')") == ["0", "2", "3"]
    assert found("version = 1.1") == found("version in (1.1)") == ["0", "1", "2", "3"]
    assert found("version = '2.0'") == ["3"]
    assert found("version = 2") == ["3", "4"]
    assert found("version < '1.10'") == ["0", "3"]  # and 1.1 is no smaller number than 1.10
    assert found("version not in ('1.1', '1.10')") == ["4"]


def test_integers_of_any_size_are_exact(ids_where):
    values = [2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, -(2**63), -(2**63) - 1, 10**40, 10**40 + 1]
    values += [10**400, 10**400 + 1, -(10**400)]
    stored = [*values, *map(str, values)]
    found = ids_where({str(i): {"n": value} for i, value in enumerate(stored)})
    for place, value in enumerate(values):
        both = [str(place), str(place + len(values))]
        assert found(f"n = {value}") == found(f"n in (5, {value})") == found(f"n like '{value}'") == both
        assert found(f"n = '{value}'") == both
        for operator in ("<", "<=", ">", ">="):
            wanted = [str(i) for i, other in enumerate(stored) if equal_or_ordered(operator, other, value)]
            assert found(f"n {operator} {value}") == wanted


TITLED = {
    "a": ("The cell", {}),
    "b": ("2024-06-01", {}),
    "c": ("1984", {"title": None}),
    "d": ("hidden", {"title": ["Own", "The other"]}),
    "e": ("hidden", {"title": ""}),
    "f": ("", {}),
    "g": ('it\'s "x"', {"title": {"short": "x"}}),
}


@pytest.fixture
def titled(make_index):
    made = make_index(dimension=2)
    with made.writer() as writer:
        documents = [IndexedDocument(name, "t", title, row) for name, (title, row) in TITLED.items()]
        writer.add(documents, np.ones((len(TITLED), 2)))
        writer.commit()
    return made


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("title like 'The %'", "ad"),
        ("title = 'The cell'", "a"),
        ("\"title\" != 'The cell'", "bcdefg"),
        ("title is 'hidden' or title contains 'hid'", ""),
        ("title = 'Own'", "d"),
        ("title in ('The cell', 1984)", "ac"),
        ("title < 2000", "c"),
        ("title >= 2024-06-01", "b"),
        ("title is '2024-06-01'", "b"),
        ("title = '2024-06-01T00:00'", "b"),
        ("title is null", "f"),
        ("title is not null", "abcdeg"),
        ("title is empty", "ef"),
        ("title.short = 'x'", "g"),
    ],
)
def test_a_title_is_a_field_unless_the_metadata_has_one(titled, where, found):
    assert list(titled.ids(where=where)) == list(found)
    assert [count.documents for count in titled.predicate_counts(where)] == [len(found)] or " or " in where


def test_titles_are_named_where_a_field_is_sought_in_vain(make_index, titled):
    assert titled.unknown_fields("titel = 'x' and title = 'y'") == {"titel": ["title"]}
    made = make_index("plain.index", dimension=2)
    with made.writer() as writer:
        writer.add(
            [IndexedDocument("a", "t", "One"), IndexedDocument("b", "t", "One"), IndexedDocument("c", "t")],
            np.ones((3, 2)),
        )
        writer.commit()
    assert made.unknown_fields("titel = 'x' and title = 'y'") == {"titel": ["title"]}
    one = made.field("title")
    assert (one.documents, one.types, one.values) == (2, {"text": 2}, (("One", 2),))
    made = make_index("bare.index", dimension=2)
    assert made.unknown_fields("title = 'y'") == {"title": []}


def test_what_is_empty(ids_where):
    values = [[], "", None, {}, "[]", 0, False, [None], [""], "x"]
    found = ids_where({str(i): {"x": value} for i, value in enumerate(values)} | {"other": {}})
    assert found("x is empty") == ["0", "1", "2", "other"]
    assert found("x IS NOT EMPTY") == list("3456789")
    assert found("_id is empty") == []


def test_fields_are_described_by_their_types_and_most_frequent_values(make_index):
    made = make_index(dimension=2)
    rows = [{"lang": "en", "tags": ["a", "b"], "by": {"name": "Ada"}}, {"lang": "en", "n": 1}, {"lang": 7, "n": None}]
    with made.writer() as writer:
        writer.add([IndexedDocument(str(i), "t", metadata=row) for i, row in enumerate(rows)], np.ones((3, 2)))
        writer.commit()
    by, lang, n, tags = made.fields()
    assert (lang.name, lang.documents, lang.types, lang.values) == (
        "lang", 3, {"text": 2, "number": 1}, (("en", 2), (7, 1)),
    )  # fmt: skip
    assert (by.name, by.values) == ("by.name", (("Ada", 1),))
    assert (n.documents, n.values) == (1, ((1, 1),))
    assert (tags.documents, tags.types) == (1, {"text": 2})
    assert made.field("lang") == lang
    assert [(one.text, one.documents) for one in made.predicate_counts("lang = 'en'  and (not n=1 or no = 2)")] == [
        ("lang = 'en'", 2), ("n=1", 1),
    ]  # fmt: skip
