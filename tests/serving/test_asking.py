"""Who asks shards is freed when the connections are closed, and takes no other answers than theirs."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from llm2comp_apps import Collection
from llm2comp_apps.serving.shards.asking import Asker
from llm2comp_apps.serving.shards.connections import Answer, Connections

FOREIGN = "does not answer as a shard of this version does"


def test_who_waits_is_freed_also_where_what_is_dropped_takes_its_time(monkeypatch):
    asker, begun, ended = Asker([], key=None, count=lambda *_: None), threading.Event(), []

    async def slow_to_end(*_: object) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)

    def wait() -> None:
        try:
            asker.look(60.0)
        except BaseException as error:  # noqa: BLE001 - however it ends
            ended.append(error)

    monkeypatch.setattr(asker, "_look_at_all", slow_to_end)
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    assert begun.wait(10)
    asker.close()
    waiting.join(20)
    assert len(ended) == 1
    with pytest.raises(RuntimeError, match=r"^the connections to the shards are closed$"):
        asker.look(1.0)
    asker.close()  # once more does no harm


@pytest.fixture
def two_shards(running, library, documents, tmp_path, loads_hash):
    """The URLs of two shards."""
    other = tmp_path / "other" / "library.index"
    with Collection.create(other, encoder="default", memory=True) as collection:
        collection.update(documents(12, start=12))
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(running(indexes=[path], load_encoders=False)) for path in (library, other)]
        yield [server.ask.url for server in started]


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"<html>be right back</html>", FOREIGN),
        (200, b'{"status": "ok"}', FOREIGN),
        (200, b'{"generation": 1, "documents": 12, "answer": null}', FOREIGN),
        (
            200,
            b'{"generation": 1, "documents": 12, "answer": [[7]]}',
            "does not answer as a shard of this version does",
        ),
        (400, b"what a proxy says", "refuses: answers 400"),
        (413, b"{}", "refuses: answers 413"),
    ],
)
@pytest.mark.parametrize("path", ["search", "browse"])
def test_an_answer_that_is_none_leaves_its_shard_out(running, two_shards, monkeypatch, status, body, reason, path):
    ask, (foreign, sound) = Connections.ask, two_shards

    async def answered(self, method, url, asked, *given):
        found = await ask(self, method, url, asked, *given)
        return Answer(status, body) if url == foreign and "/shard/" in asked and "about" not in asked else found

    with running(shards=[f"library={foreign},{sound}"], deadline=20.0, refresh_seconds=60.0) as front:
        monkeypatch.setattr(Connections, "ask", answered)
        for _ in range(2):
            found = front.ask("POST", f"/indexes/library/{path}", {"q": "cells"} if path == "search" else {})
            assert found[0] == 200, found
            assert found[1]["hits"]
            assert found[1]["missingShards"] == [foreign.removeprefix("http://")]
        ((shard, _),) = front.ask("GET", "/health")[1]["shards"].values()
        assert shard["replicas"][0]["trouble"] == reason
