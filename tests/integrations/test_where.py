"""Conditions written for frameworks are read by the index as they are meant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm2comp_indexes import compile_filter

from llm2comp_apps import UsageError
from llm2comp_apps.integrations.where import all_of, any_of, compared, equal, field, listed, literal

SCALARS = st.one_of(st.text(max_size=8), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@given(
    name=st.text(min_size=1, max_size=8).filter(lambda name: all(name.split(".")) and not set(name) & set('"\\\0')),
    values=st.lists(SCALARS, max_size=3),
)
def test_any_name_and_any_value_can_be_read(name, values):
    conditions = [listed(name, values), *(compared(name, "=", value) for value in values)]
    compile_filter(all_of([any_of(conditions), f"not ({conditions[0]})"]))


def test_how_they_are_written():
    assert field("author.name") == '"author"."name"'
    assert field("_id") == "_id"
    assert literal("it's") == "'it''s'"
    assert compared("year", "!=", None) == '"year" is not null'
    assert equal({"year": 2020, "lang": ["en", "de"]}) == "(\"year\" = 2020) and (\"lang\" is in ('en', 'de'))"
    assert compared("day", "!=", "2024-06-01") == "\"day\" is not '2024-06-01'"
    assert compared("day", ">=", "2024-06-01") == "\"day\" >= '2024-06-01'"
    assert listed("year", ["x", 1], negated=True) == 'not ("year" is in (\'x\') or "year" in (1))'
    assert listed("year", []) == "_id is null"
    assert listed("year", [2020, None]) == '"year" in (2020) or "year" is null'
    assert listed("year", [None], negated=True) == 'not ("year" is null)'


@pytest.mark.parametrize(
    "value", [2, 2.5, True, "x", float("inf"), -float("inf"), np.float32(2.5), np.int64(2), np.True_]
)
def test_a_value_is_read_as_it_was_written(value):
    assert compile_filter(f"x = {literal(value)}").predicates[0].values == (value,)


@pytest.mark.parametrize("value", [{"a": 1}, float("nan"), np.float64("nan"), None, [1]])
def test_what_has_no_literal(value):
    with pytest.raises(UsageError, match="not with"):
        literal(value)


def test_one_text_in_place_of_a_list_is_not_read_by_its_letters():
    with pytest.raises(
        UsageError, match=r"^'_id' is compared with a list of values, not with one text; write \['12'\]$"
    ):
        listed("_id", "12")


@pytest.mark.parametrize("name", ["", "a..b", 'a"b', "a\\b", "a\0b"])
def test_what_has_no_name(name):
    with pytest.raises(UsageError, match="cannot name the field"):
        field(name)
