"""The tools, asked by the protocol's own client: in the process, over standard input and output, beside a server."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import subprocess
import sys

import httpx2
import pytest
from mcp import Client, StdioServerParameters

from llm2comp_apps import Collection, Document
from llm2comp_apps.serving import ServeSettings, State, key_hash
from llm2comp_apps.serving.door import Door, InnerDoor, StandingDoor
from llm2comp_apps.serving.mcp import mcp_server
from llm2comp_apps.serving.running import announced, find_running, running_folder


@pytest.fixture(autouse=True)
def own_runtime_folder(tmp_path, monkeypatch):
    """No server of somebody else is found."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


@pytest.fixture
def state(loads_hash, library):
    state = State(ServeSettings(indexes=[library]))
    state.start()
    for engine in state.engines.values():
        engine.loaded.result(10)
    yield state
    state.close()


async def call(server, tool: str, **arguments):
    """The structured answer of a tool, or its error's text."""
    async with Client(server) as client:
        answer = await client.call_tool(tool, arguments)
    return answer.content[0].text if answer.is_error else answer.structured_content


def called(server, tool: str, **arguments):
    """The same, with a loop of its own."""
    return asyncio.run(call(server, tool, **arguments))


def test_tools_describe_themselves_and_change_nothing(state) -> None:
    async def listed(server):
        async with Client(server) as client:
            assert "search" in client.instructions
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(listed(mcp_server(InnerDoor(state))))}
    assert set(tools) == {"search", "read", "similar", "topics", "status"}
    for tool in tools.values():
        assert tool.annotations.read_only_hint
        assert tool.description
        assert all("description" in each for each in tool.input_schema["properties"].values()), tool.name
    writing = {tool.name: tool for tool in asyncio.run(listed(mcp_server(InnerDoor(state), write=True)))}
    assert set(writing) - set(tools) == {"add", "delete"}
    assert not writing["delete"].annotations.read_only_hint


def test_logging_of_the_process_stays_as_it_was(state) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    mcp_server(InnerDoor(state))
    assert (root.handlers[:], root.level) == before


def test_search_gives_snippets_and_a_cursor(state) -> None:
    server = mcp_server(InnerDoor(state))
    first = called(server, "search", query="bread rises", k=2)
    assert first["hits"][0]["id"].startswith("bread-")
    assert "yeast" in first["hits"][0]["snippet"]
    assert first["hits"][0]["fields"]["topic"] == "bread"
    assert first["answered_by"] == "this server"
    second = called(server, "search", query="bread rises", k=2, cursor=first["cursor"])
    assert [hit["rank"] for hit in second["hits"]] == [3, 4]
    assert not {hit["id"] for hit in first["hits"]} & {hit["id"] for hit in second["hits"]}
    found = called(server, "search", query="bread", where="year >= 2006", mode="lexical")
    assert [hit["id"] for hit in found["hits"]] == ["bread-10", "bread-6"] or {hit["id"] for hit in found["hits"]} == {
        "bread-6",
        "bread-10",
    }
    assert found["cursor"] is None


def test_hits_come_in_the_order_that_is_learned_and_each_of_all_pages_once(loads_hash, tmp_path) -> None:
    topics = ("ships sail", "bread rises", "stars shine", "cells divide")
    texts = [f"{topics[number % 4]} {'again ' * (number % 7)}on day {number}" for number in range(130)]
    with Collection.create(tmp_path / "many.index", encoder="default") as library:
        library.update(Document(f"d{number}", text) for number, text in enumerate(texts))
        first = [hit.id for hit in library.search("bread rises again", k=130)]
        learned = [hit.id for hit in library.search("bread rises again", k=100, rerank="ltr")]
    state = State(ServeSettings(indexes=[tmp_path / "many.index"]))
    state.start()
    server = mcp_server(InnerDoor(state))
    pages, cursor = [], {}
    for _ in range(30):
        page = called(server, "search", query="bread rises again", k=7, max_chars=100_000, **cursor)
        pages.append([(hit["rank"], hit["id"]) for hit in page["hits"]])
        if page["cursor"] is None:
            break
        cursor = {"cursor": page["cursor"]}
    found = [hit for page in pages for hit in page]
    assert [rank for rank, _ in found] == list(range(1, 131))
    assert [id_ for _, id_ in found] == learned + first[100:]
    assert learned != first[:100], "else this test says nothing"
    words = called(server, "search", query="bread rises again", k=5, mode="lexical")["hits"]
    assert all(hit["id"] in first for hit in words)
    state.close()


def test_without_an_encoder_the_words_are_searched(loads_hash, library) -> None:
    state = State(ServeSettings(indexes=[library], load_encoders=False))
    assert called(mcp_server(InnerDoor(state)), "search", query="bread", k=3)["hits"][0]["id"].startswith("bread-")
    state.close()


def test_answers_keep_to_their_budget(state) -> None:
    server = mcp_server(InnerDoor(state))
    small = called(server, "search", query="bread ships", k=10, max_chars=700)
    assert 1 <= len(small["hits"]) < 10
    assert len(json.dumps(small["hits"])) < 1100
    assert small["cursor"] == str(len(small["hits"]))
    long = called(server, "read", ids=["bread-2", "ships-3", "stars-1"], max_chars=260)
    assert len(long["texts"]) < 3
    assert long["left_out"]


def test_read_continues_in_a_long_text(loads_hash, tmp_path) -> None:
    text = " ".join(f"word{number}" for number in range(400))
    with Collection.create(tmp_path / "long.index", encoder=loads_hash) as library:
        library.update([Document("a/b c", text, "A title", {"year": 1999})])
    state = State(ServeSettings(indexes=[tmp_path / "long.index"]))
    server = mcp_server(InnerDoor(state))
    first = called(server, "read", ids=["a/b c"], max_chars=1000)["texts"][0]
    assert (first["start"], first["end"], first["length"]) == (0, 1000, len(text))
    rest = called(server, "read", ids=["a/b c"], start=1000, max_chars=10_000)["texts"][0]
    assert first["text"] + rest["text"] == text
    assert first["fields"] == {"year": 1999}

    async def resource():
        async with Client(server) as client:
            return (await client.read_resource("doc://long/a%2Fb%20c")).contents[0].text

    assert asyncio.run(resource()) == f"A title\n\n{text}"
    state.close()


def test_the_documents_of_a_topic_come_once_each_without_those_that_were_deleted(
    clustered, tmp_path, loads_hash
) -> None:
    for folder in (clustered, clustered.with_name("library.clusters")):
        shutil.copytree(folder, tmp_path / folder.name)
    state = State(ServeSettings(indexes=[tmp_path / clustered.name]))
    server = mcp_server(InnerDoor(state))
    topic = called(server, "topics")["topics"][0]["id"]

    def listed() -> list[str]:
        found, cursor = [], None
        for _ in range(10):
            page = called(server, "topics", topic=topic, **({"cursor": cursor} if cursor else {}))
            found, cursor = [*found, *page["documents"]], page["cursor"]
            if cursor is None:
                return found
        raise AssertionError("the list never ends")

    before = listed()
    gone = {before[0], before[-1]}
    with Collection.open(tmp_path / clustered.name, encoder=loads_hash) as library:
        library.delete(list(gone))
    state.indexes["library"].refresh()
    assert listed() == [each for each in before if each not in gone]
    state.close()


def test_similar_and_status(state) -> None:
    server = mcp_server(InnerDoor(state))
    near = called(server, "similar", id="stars-1", k=2)
    assert {hit["id"].partition("-")[0] for hit in near["hits"]} == {"stars"}
    (index,) = called(server, "status")["indexes"]
    assert (index["name"], index["documents"]) == ("library", 12)
    assert index["fields"] == {"topic": "text", "year": "number"}, "for `where`, as the instructions say"


@pytest.mark.parametrize(("tool", "asked"), [("search", {"query": "stars"}), ("similar", {"id": "stars-1"})])
def test_a_condition_on_a_field_that_is_not_there_is_named(state, tool, asked) -> None:
    server = mcp_server(InnerDoor(state))
    found = called(server, tool, where="yaer > 2000", **asked)
    assert found["hits"] == []
    assert found["warnings"] == ["where: no document has a field 'yaer' (there are: _id, title, topic, year)"]
    assert called(server, tool, where="year > 2000", **asked)["warnings"] == []


def test_wrong_calls_are_explained(state) -> None:
    server = mcp_server(InnerDoor(state))
    assert "less than or equal to 50" in called(server, "search", query="x", k=500)
    assert "no index 'other'; there are: library" in called(server, "search", query="x", index="other")
    assert "where" in called(server, "search", query="x", where="year >")
    assert "no document 'none'" in called(server, "read", ids=["none"])
    assert "not a cursor" in called(server, "search", query="x", cursor="../x")
    assert "no topics" in called(server, "topics")


@pytest.mark.parametrize(
    ("tool", "asked", "told"),
    [
        (
            "search",
            {"query": "stars", "filter": "year > 2000"},
            "filter is no argument of search; there are: query, k,",
        ),
        ("similar", {"id": "stars-1", "cursor": "8"}, "cursor is no argument of similar; there are: id, k, where,"),
        ("status", {"index": "library"}, "index is no argument of status; it has none"),
        ("search", {"query": "  "}, "query is empty"),
        ("search", {"query": "x", "cursor": "99999"}, "cursor must be between 0 and 10,000"),
        ("search", {"query": "x", "k": 0}, "k: Input should be greater than or equal to 1"),
    ],
)
def test_what_a_tool_does_not_take_is_refused_by_the_name_of_its_argument(state, tool, asked, told) -> None:
    answer = called(mcp_server(InnerDoor(state)), tool, **asked)
    assert told in str(answer)
    assert "pydantic" not in str(answer)


def test_reading_on_loses_nothing_of_the_texts_that_follow(state) -> None:
    server = mcp_server(InnerDoor(state))
    whole = called(server, "read", ids=["stars-1", "bread-2"])["texts"]
    first, second = called(server, "read", ids=["stars-1", "bread-2"], start=10)["texts"]
    assert first["text"] == whole[0]["text"][10:]
    assert second == whole[1]
    (behind,) = called(server, "read", ids=["stars-1"], start=10_000)["texts"]
    assert behind["start"] == behind["end"] == behind["length"]


def test_a_running_server_answers_and_is_replaced_when_it_ends(running, library) -> None:
    door = StandingDoor(ServeSettings(indexes=[library]))
    tools = mcp_server(door)

    async def session():
        with (
            running(indexes=[f"books={library}"]) as server,
            announced(server.ask.url, {"books": library}, key=False, write=False),
        ):
            first = await call(tools, "search", query="bread")
            assert first["answered_by"] == f"the server at {server.ask.url}"
            assert first["hits"][0]["id"].startswith("bread")
            assert [each["name"] for each in (await call(tools, "status"))["indexes"]] == ["library"]
            assert find_running([library], write=True) is None, "it may not be written to"
        return await call(tools, "search", query="bread", mode="lexical")

    found = asyncio.run(session())
    assert found["answered_by"] == "this server"
    assert found["hits"]


class _Ending(Door):
    """A door that closes when both of two questions have been asked."""

    def __init__(self, names) -> None:
        self.names, self.where, self.asked = names, "a server that ends", asyncio.Barrier(2)

    async def ask(self, method, path, body=None):
        await self.asked.wait()
        raise httpx2.ConnectError("gone")

    async def close(self) -> None:
        await asyncio.sleep(0)


def test_a_wrong_key_is_told_by_where_it_comes_from(running, library) -> None:
    with (
        running(indexes=[library], key_hash=key_hash("secret-key-1")) as server,
        announced(server.ask.url, {"library": library}, key=True, write=False),
    ):
        door = StandingDoor(ServeSettings(indexes=[library]), "another-key")
        answer = called(mcp_server(door), "search", query="bread")
    assert f"the server at {server.ask.url} wants another key; give it in LLM2COMP_API_KEY" in answer


def test_two_questions_at_once_outlive_the_server(library, loads_hash) -> None:
    door = StandingDoor(ServeSettings(indexes=[library]))

    async def session():
        door._door = _Ending(door.names)
        both = await asyncio.gather(*(door.ask("GET", "/livez") for _ in range(2)))
        third = await door.ask("GET", "/livez")
        await door.close()
        return [*both, third, await door.ask("GET", "/livez")]

    assert asyncio.run(session()) == [{"status": "ok"}] * 4
    door._state.close()


def test_a_server_that_still_announces_itself_but_does_not_listen_is_passed_over(loads_hash, library) -> None:
    tools = mcp_server(StandingDoor(ServeSettings(indexes=[library])))
    with announced("http://127.0.0.1:1", {"library": library}, key=False, write=False):
        assert called(tools, "search", query="bread")["answered_by"] == "this server"


def test_servers_that_are_not_there_are_not_found(library, tmp_path) -> None:
    with announced("http://127.0.0.1:1", {"library": library}, key=True, write=True):
        assert find_running([library], write=True).names == ("library",)
        assert find_running([library, tmp_path]) is None
        (record,) = running_folder().glob("*.json")
        record.rename(record.with_name("999999999.json"))  # as after kill -9
        assert find_running([library]) is None
        assert not list(running_folder().glob("*.json"))
        (running_folder() / f"{os.getpid()}.json").write_text("no json")
        assert find_running([library]) is None


def test_over_standard_input_and_output(library, tiny_encoder_dir, tmp_path) -> None:
    path = tmp_path / "notes.index"
    with Collection.create(path, encoder=str(tiny_encoder_dir)) as collection:
        collection.update([Document("cells", "Cells divide."), Document("bread", "Bread rises.")])
    code = "from llm2comp_apps.cli.main import main; main()"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = StdioServerParameters(command=sys.executable, args=["-c", code, "mcp", str(path)], env=environment)

    async def session():
        async with Client(command, read_timeout_seconds=60) as client:
            words = await client.call_tool("search", {"query": "cells", "mode": "lexical"})
            meaning = await client.call_tool("search", {"query": "cells", "mode": "dense"})
            return words.structured_content, meaning

    words, meaning = asyncio.run(session())
    assert [hit["id"] for hit in words["hits"]] == ["cells"]
    assert not meaning.is_error, meaning.content
    assert len(meaning.structured_content["hits"]) == 2


def test_an_interruption_ends_it_while_it_waits_for_a_line(library) -> None:
    """ctrl-C did nothing until standard input was closed, too."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})
    program = "from llm2comp_apps.cli.main import main; main()"
    command = [sys.executable, "-c", program, "mcp", str(library)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            print(line, file=server.stdin, flush=True)
            assert json.loads(server.stdout.readline())["id"] == 1
            server.send_signal(signal.SIGINT)
            assert server.wait(20) == -signal.SIGINT
        finally:
            server.kill()


def test_over_http_at_a_running_server(running, clustered, loads_hash) -> None:
    """The server's own loop runs in a thread; the client speaks to it through a socket."""
    with running(indexes=[clustered], key_hash=key_hash("secret-key-1"), mcp=True) as server:
        status, _, _ = server.ask.raw("POST", "/mcp", b"{}", {"content-type": "application/json"})
        assert status == 401
    with running(indexes=[clustered], mcp=True) as server:

        async def session():
            async with Client(f"{server.ask.url}/mcp") as client:
                names = {tool.name for tool in (await client.list_tools()).tools}
                found = await client.call_tool("search", {"query": "bread rises", "mode": "dense"})
                topics = await client.call_tool("topics", {})
                first = topics.structured_content["topics"][0]
                listed = await client.call_tool("topics", {"topic": first["id"]})
                return names, found.structured_content, topics.structured_content, listed.structured_content

        names, found, topics, listed = asyncio.run(session())
        foreign = {"host": "evil.example", "content-type": "application/json"}
        assert server.ask.raw("POST", "/mcp", b"{}", foreign)[0] == 400, "a page that rebinds its name"
    assert names == {"search", "read", "similar", "topics", "status"}
    assert found["hits"][0]["id"].startswith("bread")
    assert found["answered_by"] == "this server"
    assert sum(topic["size"] for topic in topics["topics"]) == 60
    assert len(listed["documents"]) == min(20, listed["topics"][0]["size"])
    assert all(topic["keywords"] for topic in topics["topics"])


def test_writing_where_the_server_lets(loads_hash, own_library) -> None:
    state = State(ServeSettings(indexes=[own_library], write=True))
    state.start()
    server = mcp_server(InnerDoor(state), write=True)
    document = {"id": "new", "text": "A walrus sleeps.", "title": "Walrus", "metadata": {"year": 2026}}
    added = called(server, "add", documents=[document])
    assert added["added"] == 1, added
    assert called(server, "search", query="walrus", mode="lexical")["hits"][0]["id"] == "new"
    assert called(server, "delete", ids=["new", "nobody"])["deleted"] == 1
    assert "documents[0]" in called(server, "add", documents=[{"id": "x"}])
    state.close()
    reading = State(ServeSettings(indexes=[own_library]))
    refused = called(mcp_server(InnerDoor(reading), write=True), "delete", ids=["bread-2"])
    assert "only reads" in refused
    reading.close()
