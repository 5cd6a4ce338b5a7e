"""A front over the servers of shards answers as one server with all documents does, whatever happens to the shards."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import shutil
import socket
import threading
import time

import pytest

from llm2comp_apps import Collection, Document, LLM2CompError, UsageError
from llm2comp_apps.serving import ServeSettings, State
from llm2comp_apps.serving.shards.addresses import Address, parse_shards

from .relay import Relay

TOPICS = ["cells divide by mitosis", "stars are born in clouds of gas", "bread rises by yeast", "ships float on water"]
BORDERS = [0, 25, 30, 80, 120]


def make_documents(count: int = 120) -> list[Document]:
    return [
        Document(
            f"d{number}",
            f"{TOPICS[number % 4]} note {number} " * (1 + number % 5)
            + f"word{number % 11}"
            + " filler" * (number % 17),
            TOPICS[number % 4].title() if number % 3 else "",
            {"year": 1900 + number, "topic": TOPICS[number % 4].split()[0], "author": {"name": f"a{number % 7}"}},
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def paths(tmp_path_factory, hash_loader):
    """One index of all documents, and four with a part of them each."""
    folder, every = tmp_path_factory.mktemp("shards"), {document.id: document for document in make_documents()}

    def make(name, documents) -> list[str]:
        with Collection.create(folder / f"{name}.index", encoder="default", memory=True) as collection:
            collection.update(documents)
            return list(collection.index.ids())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm2comp_apps.encoder.load_encoder", hash_loader)
        order = make("one", every.values())  # in which documents are added; equal scores are in that order, too
        for number, ends in enumerate(itertools.pairwise(BORDERS)):
            make(f"part{number}", [every[id_] for id_ in order[slice(*ends)]])
    return {path.stem: path for path in folder.iterdir()}


def ids_of(path) -> set[str]:
    with Collection.open(path) as collection:
        return set(collection.index.ids())


@pytest.fixture
def shards(running, paths):
    """The servers of the four shards, which load no encoder."""
    with contextlib.ExitStack() as stack:
        names = [f"part{number}" for number in range(4)]
        yield [stack.enter_context(running(indexes=[paths[name]], load_encoders=False)) for name in names]


def typed(servers, name: str = "library") -> str:
    return f"{name}=" + ",".join(server if isinstance(server, str) else server.ask.url for server in servers)


@pytest.fixture
def relays(shards):
    """A relay before each shard."""
    made = [Relay(server.ask.port) for server in shards]
    yield made
    for relay in made:
        relay.close()


@pytest.fixture
def front(running, shards):
    with running(shards=[typed(shards)]) as server:
        yield server


@pytest.fixture
def one(running, paths):
    with running(indexes=[f"library={paths['one']}"]) as server:
        yield server


def same(found, expected) -> None:
    """Equal but for times, and for the last digits of scores; ties within rounding may change places."""
    assert found.keys() == expected.keys()
    for key in found.keys() - {"hits", "processingTimeMs", "ids"}:
        assert found[key] == expected[key], key
    ours, theirs = found["hits"], expected["hits"]
    scores = [hit["score"] for hit in theirs]
    if scores and scores[0] is not None:
        assert [hit["score"] for hit in ours] == pytest.approx(scores, rel=4e-6)
        assert ours[0]["snippet"]
        ends = {scores[-1], *(scores[:1] if theirs[0]["rank"] > 1 else ())}  # a page may cut through equal ones
        sure = [
            {hit["id"] for hit in hits if all(abs(hit["score"] - end) > 1e-5 * end for end in ends)}
            for hits in (ours, theirs)
        ]
        assert sure[0] == sure[1]
    else:
        assert ours == theirs


QUERIES = [
    "how do cells divide",
    "clouds note 17",
    "water word3",
    '"born in clouds" -word5',
    "+yeast note",
    "xylophone",
]
SETTINGS = [
    {},
    {"limit": 5, "offset": 7},
    {"where": "year >= 1950 and topic != 'stars'"},
    {"facets": ["topic", "author.name"], "limit": 3, "ids": True},
    {"rerank": "memory", "limit": 4},
    {"rerank": "words", "limit": 4},
    {"rerank": "ltr", "limit": 4},
    {"fusion": "minmax", "text": True},
]
ONLY_HYBRID = [{"rerank": "ltr", "limit": 4}, {"fusion": "minmax", "text": True}]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_searches_are_those_of_one_index(front, one, mode):
    for query in QUERIES:
        for settings in SETTINGS:
            body = {"q": query, "mode": mode, **settings}
            wanted = 200 if mode == "hybrid" or settings not in ONLY_HYBRID else 422  # nothing is joined
            (status, found), (expected_status, expected) = (
                each.ask("POST", "/indexes/library/search", body) for each in (front, one)
            )
            assert status == expected_status == wanted, found
            if wanted == 200:
                same(found, expected)
            else:
                assert found["error"] == expected["error"]


def test_everything_that_reads_is_that_of_one_index(front, one):
    def both(method, path, body=None):
        (status, found), (expected_status, expected) = (each.ask(method, path, body) for each in (front, one))
        assert status == expected_status, found
        return found, expected

    for id_ in ("d3", "d27", "d119"):
        found, expected = both("GET", f"/indexes/library/documents/{id_}")
        assert found == expected
        same(*both("POST", "/indexes/library/similar", {"id": id_, "limit": 6, "where": "year > 1910"}))
    found, expected = both("GET", "/indexes/library/documents/none")
    assert found == expected
    found, expected = both("POST", "/indexes/library/similar", {"id": "none"})
    assert found["error"]["code"] == expected["error"]["code"] == "document_not_found"
    same(*both("POST", "/indexes/library/browse", {"limit": 10, "offset": 20, "facets": ["topic"]}))
    same(*both("POST", "/indexes/library/browse", {"where": "year > 1990 or yaer > 1", "facets": ["year"]}))
    for path in ("/indexes/library/fields", "/v1/models"):
        found, expected = both("GET", path)
        for each in (*found.get("data", []), *expected.get("data", [])):
            del each["created"]
        assert found == expected
    found, expected = both("POST", "/v1/embeddings", {"input": ["cells", "stars"]})
    assert found == expected
    found, expected = both("POST", "/indexes/library/search", {"vector": expected["data"][0]["embedding"]})
    same(found, expected)
    for body in ({"q": "x", "where": "year >>> 3"}, {"q": ""}, {"vector": [1, 2]}, {"q": "x", "mode": "none"}):
        found, expected = both("POST", "/indexes/library/search", body)
        assert found == expected
    (found,) = front.ask("GET", "/indexes")[1]["results"]
    (expected,) = one.ask("GET", "/indexes")[1]["results"]
    states = found.pop("shards")
    assert [state["documents"] for state in states] == [25, 5, 50, 40]
    assert all(state["ok"] for state in states)
    assert found | {"generation": 0} == expected | {"generation": 0}


def search(server, **body):
    status, found = server.ask("POST", "/indexes/library/search", {"q": "how do cells divide", "limit": 200, **body})
    assert status == 200, found
    return found


def test_a_dead_shard_of_four_is_named_and_the_rest_answers(running, shards, relays, paths):
    with running(shards=[typed([each.url for each in relays])], deadline=20.0, refresh_seconds=60.0) as front:
        whole = search(front)
        assert "partial" not in whole
        name = relays[2].url.removeprefix("http://")
        relays[2].close()
        start = time.monotonic()
        found = search(front)
        assert time.monotonic() - start < 10.0  # a closed port needs no waiting
        assert (found["partial"], found["missingShards"]) == (True, [name])
        inside = ids_of(paths["part2"])
        assert {hit["id"] for hit in found["hits"]} == {hit["id"] for hit in whole["hits"]} - inside
        (first, *_), (lost, *_) = (sorted(ids_of(paths[name])) for name in ("part0", "part2"))
        for path, body in (("browse", {"limit": 100}), ("similar", {"id": first})):
            _, answer = front.ask("POST", f"/indexes/library/{path}", body)
            assert (answer["partial"], answer["missingShards"]) == (True, [name])
        status, answer = front.ask("GET", f"/indexes/library/documents/{lost}")
        assert (status, answer["error"]["code"]) == (503, "no_shard")
        assert name in answer["error"]["message"]
        assert front.ask("GET", f"/indexes/library/documents/{first}")[0] == 200
        for served in front.state.indexes.values():
            served.refresh()
        status, health = front.ask("GET", "/health")
        assert (status, health["status"]) == (200, "partial")
        (dead,) = [each for each in health["shards"]["library"] if not each["ok"]]
        assert dead["name"] == name
        assert dead["replicas"][0]["trouble"] == "cannot be reached"
        assert b'llm2comp_shard_questions_total{outcome="failed"' in front.ask.raw("GET", "/metrics")[2]
        assert b"llm2comp_partial_total 0.0" not in front.ask.raw("GET", "/metrics")[2]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_shard_that_hangs_costs_no_more_than_the_deadline(running, shards, relays, mode):
    with running(shards=[typed([each.url for each in relays])], deadline=4.0, refresh_seconds=60.0) as front:
        whole = search(front, mode=mode)
        relays[0].swallow = True
        start = time.monotonic()
        found = search(front, mode=mode)
        assert 2.9 < time.monotonic() - start < 4.0
        assert found["missingShards"] == [relays[0].url.removeprefix("http://")]
        assert {hit["id"] for hit in found["hits"]} < {hit["id"] for hit in whole["hits"]}
        search(front, mode=mode)
        start = time.monotonic()
        assert search(front, mode=mode)["partial"]  # after two failures it is not asked any more
        assert time.monotonic() - start < 2.0
        relays[0].swallow = False
        for served in front.state.indexes.values():
            served.refresh()
        same(search(front, mode=mode), whole)


def test_closing_a_front_frees_who_waits_for_a_shard(running, shards, relays):
    state = State(ServeSettings(shards=[typed([each.url for each in relays])], deadline=60.0, load_encoders=False))
    relays[0].swallow = True
    ended = []

    def wait() -> None:
        try:
            served.answered(lambda: served.collection.index.listing(limit=3))
        except BaseException as error:  # noqa: BLE001 - however it ends
            ended.append(error)

    served = state.indexes["library"]
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    time.sleep(0.5)
    assert waiting.is_alive()
    state.close()
    waiting.join(20)
    assert len(ended) == 1


def test_a_shard_that_hangs_between_two_questions_is_left_out_of_both(running, shards, relays, paths, monkeypatch):
    """Its hits by meaning must not stay in an answer that lacks its hits by words."""
    with running(shards=[typed([each.url for each in relays])], deadline=4.0, refresh_seconds=60.0) as front:
        index = front.state.indexes["library"].index
        asked, ask = [], type(index._asker).ask

        def hanging(self, question, bodies, **named):
            asked.append(question)
            relays[3].swallow = relays[3].swallow or question == "lexical_statistics"
            return ask(self, question, bodies, **named)

        monkeypatch.setattr(type(index._asker), "ask", hanging)
        start = time.monotonic()
        found = search(front)
        assert time.monotonic() - start < 4.0
        assert asked == ["search", "lexical_statistics", "search", "lexical_statistics", "search_lexical", "get"]
        assert found["missingShards"] == [relays[3].url.removeprefix("http://")]
        assert not {hit["id"] for hit in found["hits"]} & ids_of(paths["part3"])


def test_a_slow_replica_is_asked_twice_and_a_dead_one_replaced(running, shards, relays, paths):
    with running(indexes=[paths["part1"]], load_encoders=False) as second:
        addresses = [shards[0].ask.url, f"{relays[1].url}|{second.ask.url}", shards[2].ask.url, shards[3].ask.url]
        with running(shards=[typed(addresses)], deadline=12.0, refresh_seconds=60.0) as front:
            whole = search(front)
            relays[1].delay = 8.0
            for _ in range(2):  # each replica has its turn to be the first
                start = time.monotonic()
                same(search(front), whole)
                assert time.monotonic() - start < 8.0
            metrics = front.ask.raw("GET", "/metrics")[2].decode()
            name = relays[1].url.removeprefix("http://")
            assert f'llm2comp_shard_questions_total{{outcome="second",shard="{name}"}}' in metrics
            relays[1].close()
            for _ in range(2):
                same(search(front), whole)
            for served in front.state.indexes.values():
                served.refresh()
            (state,) = [each for each in front.ask("GET", "/health")[1]["shards"]["library"] if each["name"] == name]
            assert state["ok"]
            assert [each["ok"] for each in state["replicas"]] == [False, True]


def test_shards_move_on_and_are_replaced_while_requests_run(running, paths, tmp_path, loads_hash):
    """Every answer is that of the documents before or after a change, and none fails."""
    folders = [shutil.copytree(paths[f"part{number}"], tmp_path / f"part{number}.index") for number in range(4)]
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(running(indexes=[folder], load_encoders=False, refresh_seconds=0.05))
            for folder in folders
        ]
        spare = stack.enter_context(running(indexes=[folders[3]], load_encoders=False, refresh_seconds=0.05))
        addresses = [*servers[:3], f"{servers[3].ask.url}|{spare.ask.url}"]
        front = stack.enter_context(running(shards=[typed(addresses)], refresh_seconds=0.2, deadline=20.0))
        stop, wrong, answered = threading.Event(), [], []

        def ask() -> None:
            while not stop.is_set():
                status, found = front.ask("POST", "/indexes/library/search", {"q": "fresh cells divide", "limit": 30})
                if status != 200 or found.get("partial"):
                    wrong.append((status, found))
                else:
                    scores = [hit["score"] for hit in found["hits"]]
                    answered.append(sorted(hit["id"] for hit in found["hits"] if hit["id"].startswith("new")))
                    if scores != sorted(scores, reverse=True) or len(found["hits"]) != 30:
                        wrong.append(found)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(8):
            with Collection.open(folders[number % 4], encoder=loads_hash) as library:
                library.update([Document(f"new{number}", f"fresh cells divide {number}", "", {"year": 2000 + number})])
            seen = len(answered)
            while len(answered) < seen + 3 and not wrong:
                time.sleep(0.01)
        servers[3].server.should_exit = True  # its place is taken by the other replica
        seen = len(answered)
        while len(answered) < seen + 6 and not wrong:
            time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(answered) > 20
        assert answered[-1] == [f"new{number}" for number in range(8)]
        assert len(front.state.indexes["library"].collection) == 128


def test_a_shard_that_comes_later_is_taken_in_and_one_of_another_encoder_is_not(
    running, shards, paths, tmp_path, make_hash_encoder, caplog
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    other = make_hash_encoder(seed="other")
    with Collection.create(tmp_path / "other.index", encoder=other, memory=True) as collection:
        collection.update([Document("x", "cells divide")])
    caplog.set_level(logging.WARNING)
    with running(shards=[typed([*shards[:3], f"http://127.0.0.1:{port}"])], refresh_seconds=60.0) as front:
        assert f"127.0.0.1:{port} is not asked: it cannot be reached" in caplog.text
        index = front.state.indexes["library"]
        assert search(front)["missingShards"] == [f"127.0.0.1:{port}"]
        for path, expected in (
            (tmp_path / "other.index", "has vectors of the encoder hashother"),
            (paths["part3"], None),
        ):
            with running(indexes=[path], load_encoders=False, port=port, bind=port):
                index.refresh()
                (state,) = [each for each in index.shard_states() if each["name"].endswith(str(port))]
                trouble = state["replicas"][0]["trouble"]
                assert (trouble is None) if expected is None else (expected in trouble)
                assert ("partial" in search(front)) == (expected is not None)
            index.refresh()
        assert "is asked again" in caplog.text


def test_what_cannot_be_one_index_is_refused_in_a_line(loads_hash, running, shards, paths, tmp_path, make_hash_encoder):
    dead = "http://127.0.0.1:9"

    def refused(error, match, *addresses, **settings):
        with pytest.raises(error, match=match) as caught:
            State(ServeSettings(shards=[typed(addresses)], **settings))
        assert "\n" not in str(caught.value)

    refused(LLM2CompError, "no shard answers: 127.0.0.1:9 cannot be reached", dead)
    with Collection.create(tmp_path / "x.index", encoder=make_hash_encoder(seed="x"), memory=True) as collection:
        collection.update([Document("x", "cells divide")])
    with running(indexes=[tmp_path / "x.index"], load_encoders=False) as other:
        refused(UsageError, "cannot be searched together with the others: it has vectors of", shards[0], other)
    with running(indexes=[paths["part2"]], load_encoders=False) as copy:
        refused(UsageError, "hold each document once, but .* both hold 'd", *shards, copy)
    with running(indexes=[paths["part0"], paths["part1"]], load_encoders=False) as several:
        refused(LLM2CompError, r"must serve one index, or be named with it .* part0, part1", several)
        state = State(ServeSettings(shards=[typed([f"{several.ask.url}/indexes/part1", shards[0]])]))
        assert len(state.indexes["library"].collection) == 30
        state.close()
    with running(shards=[typed(shards)]) as front:
        refused(LLM2CompError, "lies in shards itself", front)
    with pytest.raises(UsageError, match="two indexes under one name, 'library'"):
        State(ServeSettings(shards=[typed(shards), typed(shards)]))


def test_keys_are_sent_to_shards(loads_hash, running, paths):
    from llm2comp_apps.serving import key_hash

    key = "a-long-secret"
    with running(indexes=[paths["part0"]], load_encoders=False, key_hash=key_hash(key)) as guarded:
        with pytest.raises(LLM2CompError, match="the key is missing or wrong"):
            State(ServeSettings(shards=[guarded.ask.url]))
        assert key not in repr(ServeSettings(shard_key=key))
        with running(shards=[guarded.ask.url], shard_key=key, key_hash=key_hash("another-key")) as front:
            assert list(front.state.indexes) == ["part0"]  # the name that its shards have
            headers = {"authorization": "Bearer another-key"}
            status, found = front.ask("POST", "/indexes/part0/search", {"q": "cells"}, **headers)
            assert (status, len(found["hits"])) == (200, 10)
            health = front.ask("GET", "/health")[1]  # without a key: no names
            assert health["shards"] == {"part0": {"ok": 1, "of": 1}}


def test_what_a_front_cannot_do_is_refused_in_a_line(running, shards):
    with running(shards=[typed(shards)], write=True) as front:
        for method, path, body in (
            ("POST", "documents", {"documents": [{"id": "a", "text": "b"}]}),
            ("POST", "documents/delete", {"ids": ["d1"]}),
            ("DELETE", "documents/d1", None),
        ):
            status, found = front.ask(method, f"/indexes/library/{path}", body)
            assert (status, found["error"]["code"]) == (409, "sharded")
            assert "change documents at the servers of its shards" in found["error"]["message"]
        for path in ("topics", "map"):
            status, found = front.ask("GET", f"/indexes/library/{path}")
            assert (status, found["error"]["message"]) == (404, "the index library lies in shards, and has no topics")


STATISTICS = {"documents": 120, "tokens": 2000, "frequencies": {"cell": 30}}


QUESTIONS = [
    ("search", {"vectors": {"shape": [1, 32], "float32": "AAAA"}, "k": 3}, 422),
    ("search", {"vectors": {"shape": [1, -1], "float32": "AAAAAA=="}, "k": 3}, 422),
    ("search", {"vectors": [1.0], "k": 3}, 422),
    ("search", {"k": 10**9, "vectors": {"shape": [1, 32], "float32": "AAAA" * 42 + "AAA="}}, 422),
    ("search_lexical", {"q": "cells", "k": 3, "statistics": STATISTICS}, 200),
    ("search_lexical", {"q": "cells", "k": 3, "statistics": {**STATISTICS, "frequencies": {}}}, 422),
    ("search_lexical", {"q": "cells", "k": 3, "statistics": {**STATISTICS, "frequencies": {"cell": "x"}}}, 422),
    ("search_lexical", {"q": "cells", "k": 3, "statistics": {**STATISTICS, "tokens": 1 << 50}}, 422),
    ("search_lexical", {"q": "cells", "k": 3, "statistics": {**STATISTICS, "documents": 3}}, 422),
    ("search_lexical", {"q": "cells", "k": 3, "statistics": {**STATISTICS, "tokens": 1}}, 409),
    ("search_lexical", {"q": "cells", "k": 3, "clauses": [{"sign": "perhaps", "kind": "word", "text": "x"}]}, 422),
    ("search_lexical", {"q": "cells", "k": 3, "clauses": 7}, 422),
    ("search_lexical", {"q": "cells", "k": 3, "where": "year >>> 2"}, 422),
    ("get", {"ids": ["none"]}, 409),
    ("get", {"ids": "d1"}, 422),
    ("memory", {"ids": ["d1"], "spans": [[1]]}, 422),
    ("vectors", {"ids": list(map(str, range(20_000)))}, 422),
    ("value_counts", {"ids": []}, 422),
    ("close", {}, 404),
    ("__len__", {}, 404),
    ("about", {"fingerprint": "another"}, 409),
]


def test_a_shard_answers_only_what_can_be_asked(shards):
    for question, body, status in QUESTIONS:
        found_status, found = shards[0].ask("POST", f"/indexes/part0/shard/{question}", body)
        assert found_status == status, (question, body, found)
        assert status == 200 or found["error"]["message"]


def test_addresses_as_they_are_typed():
    parsed = parse_shards("library=http://a:8000|https://b,http://c:1/indexes/x%20y/")
    assert parsed.name == "library"
    assert parsed.shards == ((Address("http://a:8000"), Address("https://b")), (Address("http://c:1", "x y"),))
    assert [each.name for shard in parsed.shards for each in shard] == ["a:8000", "b", "c:1/indexes/x y"]
    assert parse_shards("http://a?b=c".replace("?b=c", "")).name is None
    forms = ("a:8000", "http://a,", "http://a?x=1", "http://a/other", "ftp://a", "", "x=", "http://a||http://b")
    ports = ("http://a:99999", "http://a:port", "http://[::1", "http://a:0")
    for wrong in (*forms, *ports, "http://a..b", f"http://{'a' * 64}:1", "http://me:secret@a:1"):
        with pytest.raises(UsageError, match="must be addresses such as"):
            parse_shards(wrong)
    with pytest.raises(UsageError, match="shards names a:1 twice"):
        parse_shards("http://a:1,http://b|http://A:1/")


def test_answers_are_bounded_json(shards):
    """No array of a shard is larger than what was asked for."""
    status, found = shards[0].ask("POST", "/indexes/part0/shard/listing", {"limit": 3, "fields": ["year"]})
    assert status == 200
    total, ids, counts = found["answer"]
    assert (total, len(ids), len(counts["year"])) == (25, 3, 25)
    assert json.dumps(found)
