"""Servers of one shard that are some commits apart, as while new documents come to one after the other."""

from __future__ import annotations

import contextlib
import shutil
import time

import pytest

from llm2comp_apps import Collection, Document
from llm2comp_apps.serving.shards.asking import Asker

from .relay import Relay

NEW = Document("new", "A new text on how cells divide.", "", {"kind": "fresh"})


@pytest.fixture
def behind(own_library, tmp_path, loads_hash):
    """A copy without the newest document."""
    copy = shutil.copytree(own_library, tmp_path / "behind" / "library.index")
    with Collection.open(own_library) as library:
        library.update([NEW])
    return copy


@pytest.fixture
def front(running, own_library, behind, documents, tmp_path, loads_hash):
    """A front over two shards, the first of which has a replica that is behind."""
    other = tmp_path / "other" / "library.index"
    with Collection.create(other, encoder="default", memory=True) as library:
        library.update(documents(12, start=12))
    with contextlib.ExitStack() as stack:
        urls = [
            stack.enter_context(running(indexes=[path], load_encoders=False)).ask.url
            for path in (own_library, behind, other)
        ]
        shards = f"library={urls[0]}|{urls[1]},{urls[2]}"
        yield stack.enter_context(running(shards=[shards], deadline=20.0, refresh_seconds=60.0))


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_one_replica_answers_all_of_a_request(front, monkeypatch, mode) -> None:
    ask, asked = Asker.ask, []

    def counted(self, question, *given, **named):
        asked.append(question)
        return ask(self, question, *given, **named)

    monkeypatch.setattr(Asker, "ask", counted)
    found = []
    for _ in range(4):
        body = {"q": "how do cells divide", "mode": mode, "limit": 20}
        status, answer = front.ask("POST", "/indexes/library/search", body)
        assert status == 200, answer
        found.append("new" in {hit["id"] for hit in answer["hits"]})
    assert sorted(found) == [False, False, True, True]  # the replicas have had their turns
    assert asked.count("lexical_statistics") == 4, asked  # no request began again


def test_what_only_one_replica_has_is_there_or_not(front) -> None:
    answers = [front.ask("POST", "/indexes/library/similar", {"id": "new"}) for _ in range(4)]
    assert sorted(status for status, _ in answers) == [200, 200, 404, 404], answers


def test_fields_that_a_replica_gave_are_asked_again_when_it_has_moved_on(front, behind) -> None:
    def names() -> set[str]:
        status, answer = front.ask("GET", "/indexes/library/fields")
        assert status == 200, answer
        return {field["name"] for field in answer["fields"]}

    served = front.state.indexes["library"]
    seen = [names()]
    while "kind" in seen[-1]:  # until it was the turn of the replica that is behind
        assert len(seen) < 20
        served._fields = None
        seen.append(names())
    assert names() == seen[-1]  # they are kept
    with Collection.open(behind) as library:
        library.update([NEW])
    end = time.monotonic() + 20
    while not served.refresh():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert "kind" in names()


def test_an_address_that_does_not_answer_is_named_once(running, own_library, loads_hash) -> None:
    with contextlib.ExitStack() as stack:
        shard = stack.enter_context(running(indexes=[own_library], load_encoders=False))
        relay = Relay(shard.ask.port)
        front = stack.enter_context(running(shards=[f"library={relay.url}"], deadline=5.0, refresh_seconds=60.0))
        relay.close()
        for _ in range(4):  # the last of them finds nobody who can be asked
            status, answer = front.ask("POST", "/indexes/library/search", {"q": "cells", "mode": "lexical"})
            name = relay.url.removeprefix("http://")
            assert (status, answer["error"]["message"]) == (
                503,
                f"shards of library do not answer: {name} cannot be reached",
            )


def test_a_server_without_encoders_says_why_it_adds_nothing_and_deletes(running, own_library) -> None:
    with running(indexes=[own_library], load_encoders=False, write=True) as shard:
        status, answer = shard.ask("POST", "/indexes/library/documents", {"documents": [{"id": "new", "text": "a"}]})
        assert (status, answer["error"]["code"]) == (409, "no_encoder")
        assert answer["error"]["message"] == (
            "this server was started without encoders and can add nothing; `llm2comp index add` can"
        )
        assert shard.ask("DELETE", "/indexes/library/documents/cells-0")[0] == 200


def test_a_document_that_goes_between_questions_fails_nothing(running, own_library, loads_hash, monkeypatch) -> None:
    """However often: from the third try on, answers of two states are put together where they fit."""
    ask, gone = Asker.ask, []

    def asked(self, question, *given, **named):
        found = ask(self, question, *given, **named)
        if question == "listing" and len(gone) < 3:
            gone.append(found[0].answer.ids[len(gone)])
            with Collection.open(own_library) as library:
                library.delete([gone[-1]])
            shard.state.indexes["library"].refresh()
        return found

    with contextlib.ExitStack() as stack:
        shard = stack.enter_context(running(indexes=[own_library], load_encoders=False))
        front = stack.enter_context(running(shards=[f"library={shard.ask.url}"], deadline=20.0, refresh_seconds=60.0))
        monkeypatch.setattr(Asker, "ask", asked)
        status, answer = front.ask("POST", "/indexes/library/browse", {"limit": 12})
        assert status == 200, answer
        assert len(answer["hits"]) == 9
        assert not {hit["id"] for hit in answer["hits"]} & {*gone}
