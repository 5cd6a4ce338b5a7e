"""Arguments of other types than an index can keep or count by."""

from __future__ import annotations

import numpy as np
import pytest
from llm2comp_indexes import FilterError, Index, InputError


@pytest.mark.parametrize("name", ["dimension", "memory_tokens"])
@pytest.mark.parametrize("value", [None, 1.5, np.float32(2), "8"])
def test_what_is_no_whole_number_makes_no_index(make_index, fast_path, name, value):
    with pytest.raises(InputError, match="must be a whole number") as error:
        make_index(**{name: value})
    assert error.value.field == name
    assert list(fast_path.iterdir()) == []


@pytest.mark.parametrize("number", [True, np.int64(1)])
def test_a_whole_number_of_another_type_is_one(fast_path, number):
    encoder = {"name": "mine", "fingerprint": "1"}
    Index.create(fast_path / "x", dimension=number, encoder=encoder, memory_tokens=number).close()
    with Index.open(fast_path / "x") as index:
        assert (index.dimension, index.memory_tokens) == (1, 1)


@pytest.mark.parametrize("k", [None, 1.5, "2"])
def test_a_number_of_hits_is_whole(make_index, fill, k):
    index = make_index(dimension=8)
    fill(index, 3)
    for search in (lambda: index.search(np.ones(8), k), lambda: index.search_lexical("text", k)):
        with pytest.raises(InputError, match="k must be a whole number"):
            search()


@pytest.mark.parametrize("condition", ["bucket = '\ud800'", "x\udcff = 1"])
def test_a_condition_that_is_no_utf8_is_refused(make_index, fill, condition):
    index = make_index(dimension=8)
    fill(index, 3)
    for ask in (lambda: list(index.ids(where=condition)), lambda: index.search(np.ones(8), 1, where=condition)):
        with pytest.raises(FilterError, match="where is not valid UTF-8"):
            ask()


@pytest.mark.parametrize("operator", ["like", "contains"])
def test_a_pattern_that_sqlite_would_not_take_is_refused_by_its_length(ids_where, operator):
    longest = {"a": "x" * 49_000, "b": "é" * 24_500, "c": "_" * 24_500}
    found = ids_where({id_: {"text": text} for id_, text in longest.items()})
    for id_, text in longest.items():
        assert id_ in found(f"text {operator} '{text}'")
        with pytest.raises(FilterError, match="a pattern has at most 49,000 bytes"):
            found(f"text {operator} '{text}x'")
