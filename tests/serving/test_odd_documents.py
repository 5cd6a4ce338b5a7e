"""Ids and metadata as odd as an index takes them come and go as they are."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client

from llm2comp_apps.serving.call import _written
from llm2comp_apps.serving.door import InnerDoor
from llm2comp_apps.serving.mcp import mcp_server

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
BIG = 123456789012345678901234567890


@pytest.fixture
def server(running, own_library):
    with running(indexes=[own_library], write=True) as started:
        yield started


def stored(ask, *documents) -> None:
    status, answer = ask("POST", "/indexes/library/documents", {"documents": list(documents)})
    assert (status, answer["added"]) == (200, len(documents)), answer


def nested(depth: int) -> bytes:
    """Metadata; Python's own writer ends at a thousand levels, as its reader does."""
    return b'{"field": ' + b'{"in":' * depth + str(BIG).encode() + b"}" * (depth + 1)


def posted(ask, metadata: bytes) -> tuple[int, dict]:
    body = b'{"documents": [{"id": "odd", "text": "deep mitosis", "metadata": ' + metadata + b"}]}"
    status, _, answer = ask.raw("POST", "/indexes/library/documents", body)
    return status, json.loads(answer)


@pytest.mark.parametrize("odd", ["ab\n", "\nab", "a\nb", "a/b\n", "ab\r\n"])
def test_a_line_break_belongs_to_an_id(server, odd) -> None:
    stored(server.ask, {"id": "ab", "text": "cells"}, {"id": odd, "text": "mitosis"})
    path = f"/indexes/library/documents/{quote(odd, safe='')}"
    assert server.ask("GET", path)[1]["id"] == odd
    assert server.ask("DELETE", path)[0] == 200
    assert server.ask("GET", path)[0] == 404
    assert server.ask("DELETE", path)[0] == 404
    assert server.ask("GET", "/indexes/library/documents/ab")[1]["text"] == "cells"


def test_no_path_takes_a_line_break_at_its_end(server) -> None:
    assert server.ask("GET", "/indexes%0A")[0] == 404
    assert server.ask("GET", "/indexes/library/search%0A?q=cells")[0] == 404


@pytest.mark.parametrize("depth", [60, 260, 600, 900, 950])
def test_metadata_of_any_depth_are_answered(server, depth) -> None:
    assert posted(server.ask, nested(depth))[0] == 200
    for status, _, answer in (
        server.ask.raw("GET", "/indexes/library/documents/odd"),
        server.ask.raw("GET", "/indexes/library/search?q=deep+mitosis&mode=lexical"),
        server.ask.raw("POST", "/indexes/library/browse", b'{"limit": 50}'),
    ):
        assert status == 200, answer
        assert answer.count(b'"in":') == depth
        assert str(BIG).encode() in answer


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    )
)
def test_what_lies_deep_is_written_as_it_is(value) -> None:
    assert json.loads(_written(value)) == value


@pytest.mark.parametrize("metadata", [b'{"a\\u0000b": 1}', nested(1000), nested(1010)])
def test_what_cannot_be_stored_is_the_clients_fault(server, metadata) -> None:
    status, answer = posted(server.ask, metadata)
    assert status in (400, 422), answer
    assert answer["error"]["message"]
    assert server.ask("GET", "/indexes/library/documents/odd")[0] == 404


def test_large_integers_that_are_posted_stay_integers(server) -> None:
    numbers = [BIG, -BIG, 2**63, 2**64 - 1, 10**18, 1.5, 1e300]
    stored(server.ask, {"id": "large", "text": "x", "metadata": {"numbers": numbers}})
    found = server.ask("GET", "/indexes/library/documents/large")[1]["metadata"]["numbers"]
    assert [(type(each), each) for each in found] == [(type(each), each) for each in numbers]
    status, answer = server.ask("POST", "/indexes/library/search", {"q": "cells", "limit": BIG})
    assert status in (400, 422), answer


def test_an_integer_of_five_thousand_digits_is_refused_in_a_line(server) -> None:
    body = b'{"documents": [{"id": "a", "text": "b", "metadata": {"n": ' + b"9" * 5000 + b"}}]}"
    status, _, answer = server.ask.raw("POST", "/indexes/library/documents", body)
    assert status in (400, 422), answer
    assert json.loads(answer)["error"]["message"]


def test_ids_that_are_numbers_get_no_hint_about_tokens(server) -> None:
    status, answer = server.ask("POST", "/indexes/library/documents/delete", {"ids": [1]})
    assert status in (400, 422)
    assert "token" not in answer["error"]["message"]


def test_a_client_that_leaves_within_its_body_is_no_failure(server, caplog) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.ask.port)
    connection.putrequest("POST", "/indexes/library/search")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b'{"q": "ce')
    with caplog.at_level(logging.WARNING, logger="llm2comp_apps"):
        connection.close()
        assert server.ask("GET", "/indexes/library/search?q=cells")[0] == 200
        assert server.ask("GET", "/health")[0] == 200
    assert "a request failed" not in caplog.text


def test_an_assistant_reads_ids_that_mean_a_folder(server) -> None:
    stored(server.ask, {"id": ".", "text": "one"}, {"id": "..", "text": "two"}, {"id": "a/../b", "text": "three"})
    tools = mcp_server(InnerDoor(server.state))

    async def read(name: str) -> str:
        async with Client(tools) as client:
            answer = await client.call_tool("read", {"ids": [name], "index": "library"})
            return answer.structured_content["texts"][0]["text"]

    assert [asyncio.run(read(each)) for each in (".", "..", "a/../b")] == ["one", "two", "three"]


def test_a_resource_that_is_not_there_says_so(server, caplog) -> None:
    long = "mitosis " * 20_000
    stored(server.ask, {"id": "long", "title": "T", "text": long})
    tools = mcp_server(InnerDoor(server.state))

    async def read(name: str) -> str:
        async with Client(tools) as client:
            return (await client.read_resource(f"doc://library/{name}")).contents[0].text

    assert asyncio.run(read("long")) == f"T\n\n{long}".strip()
    with caplog.at_level(logging.ERROR), pytest.raises(ExceptionGroup) as raised:
        asyncio.run(read("nobody"))
    assert raised.group_contains(Exception, match=r"nobody")
    assert "Traceback" not in caplog.text


def test_a_front_reads_large_integers_as_its_shards_write_them(server, running) -> None:
    numbers = [BIG, -BIG, 2**63, 2**64 - 1, 1.5]
    stored(server.ask, {"id": "large", "text": "x", "metadata": {"numbers": numbers}})
    with running(shards=[f"library={server.ask.url}"], load_encoders=False) as front:
        found = front.ask("GET", "/indexes/library/documents/large")[1]["metadata"]["numbers"]
        assert [(type(each), each) for each in found] == [(type(each), each) for each in numbers]
