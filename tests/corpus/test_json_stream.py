"""The streaming JSON reader against the standard library's parser, at every place where a block can end."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from llm2comp_apps.corpus import json_stream
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.records import BrokenFileError

WORD = st.booleans() | st.text(max_size=8)
SCALAR = WORD | st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
LAYOUT = st.fixed_dictionaries({"indent": st.none() | st.integers(0, 3), "ensure_ascii": st.booleans()})
OPTIONS = CorpusOptions()


@pytest.fixture(params=[1, 2, 7, 64])
def small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_BLOCK", request.param)
    monkeypatch.setattr(json_stream, "_RECORD_WINDOW", 3 * request.param)


@pytest.mark.usefixtures("small_blocks")
@given(values=st.lists(VALUE, max_size=5), layout=LAYOUT)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_array(values: list[Any], layout: dict[str, Any]) -> None:
    text = json.dumps(values, **layout)
    elements = list(json_stream.read_json_values(io.StringIO(text), OPTIONS))
    assert [element for _, _, element in elements] == values
    lines = text.split("\n")
    for number, _, element in elements:  # begins on the line that is reported
        assert json.dumps(element, ensure_ascii=layout["ensure_ascii"])[:1] in lines[number - 1]


@pytest.mark.usefixtures("small_blocks")
@given(
    values=st.dictionaries(st.text(max_size=5), st.dictionaries(st.text(max_size=5), VALUE, max_size=3), max_size=5)
    | st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=5)
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mapping(values: dict[str, Any]) -> None:
    assume(not OPTIONS.known(values) and values.keys().isdisjoint(json_stream.WRAPPERS))
    text = json.dumps(values, indent=1)
    elements = list(json_stream.read_json_values(io.StringIO(text), OPTIONS))
    assert {key: value for _, key, value in elements} == values


@pytest.mark.usefixtures("small_blocks")
@given(values=st.lists(WORD, min_size=1, max_size=4), data=st.data())  # a number cut short is another number
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_prefix_of_an_array_is_seen_to_be_cut(values: list[Any], data: st.DataObject) -> None:
    text = json.dumps(values)
    cut = data.draw(st.integers(1, len(text) - 1))
    stream = json_stream.read_json_values(io.StringIO(text[:cut]), OPTIONS)
    found = []
    with pytest.raises(BrokenFileError):
        found.extend(element for _, _, element in stream)
    assert found == values[: len(found)]


def test_line_numbers() -> None:
    text = '\n\n[\n  {"a": 1},\n\n  {"b":\n 2}\n,{"c": 3}]'
    assert [line for line, _, _ in json_stream.read_json_values(io.StringIO(text), OPTIONS)] == [4, 6, 8]


@pytest.mark.parametrize("wrong", ['{"text": "b",}', '{"text" "b"}', '{"text": "b\\qc"}', '{"text": nul}'])
@pytest.mark.parametrize("rest", [1, 2000])
def test_what_is_wrong_is_said_however_much_follows(wrong: str, rest: int) -> None:
    text = f'[{{"text": "a"}},\n{wrong},\n' + ",\n".join('{"text": "c"}' for _ in range(rest)) + "]"
    elements = json_stream.read_json_values(io.StringIO(text), CorpusOptions(max_record_chars=400))
    assert next(elements) == (1, None, {"text": "a"})
    with pytest.raises(BrokenFileError) as told:
        list(elements)
    assert told.value.line == 2
    assert told.value.reason.startswith("not JSON: ")
