"""Whatever clients send and whatever happens to the process: no answer is lost, and nothing dies."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm2comp_apps import Collection

PROGRAM = Path(__file__).with_name("program.py")

TEXT = st.one_of(
    st.text(max_size=200),
    st.sampled_from(["", " ", "\0", "\ud800", "\u202e\u0301" * 50, "a" * 100_000, "🧬" * 999, "' OR 1=1 --", "../x"]),
)
NUMBER = st.one_of(
    st.integers(), st.floats(allow_nan=True), st.sampled_from([0, -1, 10**30, 2**63, 2**64, 1e308, 5e-324, True, False])
)
VALUE = st.recursive(
    st.one_of(TEXT, NUMBER, st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)
CONDITIONS = ["year >= 2000", "not not year = 1", "((((year = 1))))", "a.b.c = 'x'", "year in (1, 2", "'", "(" * 5000]
CONDITION = st.one_of(TEXT, st.sampled_from(CONDITIONS))
VECTOR = st.one_of(st.lists(NUMBER, min_size=32, max_size=32), st.just([1e20] * 32), VALUE)
TEXTS = st.one_of(VALUE, st.lists(TEXT, max_size=6))
FIELDS = {
    **dict.fromkeys(("input", "inputs", "documents", "texts", "sentences", "ids"), TEXTS),
    **dict.fromkeys(("q", "query", "id", "model", "prompt_name", "encoding_format", "mode", "fusion", "rerank"), VALUE),
    **dict.fromkeys(("limit", "offset", "top_n", "dimensions"), st.one_of(NUMBER, VALUE)),
    **dict.fromkeys(("return_documents", "raw_scores", "truncate", "text", "normalize", "facets", "parameters"), VALUE),
    "where": CONDITION,
    "vector": VECTOR,
}
GOOD = {
    "/v1/embeddings": {"input": "x"},
    "/v1/rerank": {"query": "x", "documents": ["a", "b"]},
    "/rerank": {"query": "x", "texts": ["a", "b"]},
    "/embed": {"inputs": "x"},
    "/embed_all": {"inputs": "x"},
    "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["b"]}},
    "/tokenize": {"inputs": "x"},
    "/indexes/library/search": {"q": "cells", "mode": "hybrid"},
    "/indexes/library/similar": {"id": "cells-0"},
    "/indexes/library/documents": {"documents": [{"id": "a", "text": "b"}]},
    "/indexes/library/documents/delete": {"ids": ["nobody"]},
}


@st.composite
def requests(draw):
    """A path, and a body that is nearly right, quite wrong, or no JSON at all."""
    path = draw(st.sampled_from(sorted(GOOD)))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return path, draw(st.binary(max_size=300))
    if kind == 1:
        return path, b"[" * draw(st.integers(1, 50_000))
    if kind == 2:
        return path, json.dumps(draw(VALUE)).encode("utf-8", "surrogatepass")
    body = dict(GOOD[path])
    for name in draw(st.lists(st.sampled_from([*FIELDS, *body]), max_size=3)):
        body[name] = draw(FIELDS[name])
    return path, json.dumps(body).encode("utf-8", "surrogatepass")  # NaN and lone surrogates as they are


def poison(server, count: int, seen: dict[int, int]) -> None:
    """Send wrong requests; none may end in a 5xx, and good ones are answered as before."""

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(requests())
    def send(request) -> None:
        path, body = request
        status, _, answer = server.ask.raw("POST", path, body, {"content-type": "application/json"})
        seen[status] = seen.get(status, 0) + 1
        assert status < 500, (path, body[:500], answer[:500])
        json.loads(answer)

    send()
    assert all(engine.alive for engine in server.state.engines.values())
    assert server.ask("POST", "/v1/embeddings", {"input": "x"})[0] == 200
    assert server.ask("POST", "/indexes/library/search", {"q": "cells"})[1]["hits"]


def test_no_request_is_so_wrong_that_the_server_fails(running, own_library) -> None:
    seen: dict[int, int] = {}
    with running(indexes=[own_library], write=True) as server:
        poison(server, 150, seen)
    assert seen.get(200, 0) > 5
    assert seen.get(422, 0) > 5


@pytest.mark.torture
def test_no_request_is_so_wrong_that_the_server_fails_long(running, own_library) -> None:
    seen: dict[int, int] = {}
    with running(indexes=[own_library], write=True) as server:
        poison(server, 1500, seen)
    print(f"poisoned requests by status: {dict(sorted(seen.items()))}")


def test_strange_requests_that_are_no_json(ask) -> None:
    for path in (
        "/indexes/%00/search",
        "/indexes/library/documents/%ff%fe",
        "/%2e%2e/%2e%2e/etc/x",
        "/indexes//search",
    ):
        assert ask.raw("GET", path)[0] in (400, 404, 422), path
    assert ask.raw("GET", "/indexes/library/search?q=cells&limit=%F0&mode=lexical")[0] == 422
    head = b"POST /embed HTTP/1.1\r\nHost: localhost\r\n"
    for raw in (b"\0\0\0\0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", head + b"Content-Length: -1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", ask.port), 10) as connection:
            connection.sendall(raw)
            assert connection.recv(1000).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 405 "))


def test_bodies_are_limited_by_size_and_time(running, library) -> None:
    from llm2comp_apps.serving import Limits

    with running(indexes=[library], limits=Limits(body=1000, body_seconds=0.3)) as server:
        assert server.ask("POST", "/v1/embeddings", {"input": "x" * 2000})[0] == 413
        assert server.ask.raw("POST", "/embed", iter([b"[" * 600] * 3))[0] == 413  # in pieces, without a length
        with socket.create_connection(("127.0.0.1", server.ask.port), 10) as connection:
            connection.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            assert b" 408 " in connection.recv(1000).split(b"\r\n")[0]


def test_slow_clients_hold_nobody_up(server) -> None:
    """Two hundred connections that send a byte now and then; others are answered meanwhile."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", server.ask.port), 10)) for _ in range(200)]
        for number, connection in enumerate(slow):
            whole = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
            connection.sendall(whole[: number % len(whole) + 1])
        start = time.monotonic()
        for _ in range(20):
            assert server.ask("POST", "/indexes/library/search", {"q": "cells"})[0] == 200
        assert time.monotonic() - start < 10
        assert server.state.at_work <= 200


def test_work_of_clients_that_left_is_dropped(server) -> None:
    engine = next(iter(server.state.engines.values()))
    original, gate = engine.encoder.encode, threading.Event()
    batches = []

    def held(texts, **options):
        gate.wait(20)
        batches.append(list(texts))
        return original(texts, **options)

    engine.encoder.encode = held
    try:
        first = threading.Thread(target=server.ask, args=("POST", "/embed", {"inputs": "first"}))
        first.start()
        while not engine._running:
            time.sleep(0.005)
        for left in range(5):
            with socket.create_connection(("127.0.0.1", server.ask.port), 10) as connection:
                body = b'{"inputs": "left"}'
                head = f"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                connection.sendall(head + body)
                while sum(map(len, engine._lanes.values())) <= left:
                    time.sleep(0.005)
            while server.state.at_work > 1:
                time.sleep(0.005)
        gate.set()
        first.join(10)
        assert server.ask("POST", "/embed", {"inputs": "after"})[0] == 200
    finally:
        del engine.encoder.encode
    assert "left" not in [text for batch in batches for text in batch]
    assert "llm2comp_cancelled_total 5.0" in server.ask.raw("GET", "/metrics")[2].decode()


def swap(running, documents, path: Path, commits: int, threads: int = 6) -> tuple[int, float]:
    """Commit while clients search; returns how many requests were answered, and the longest time until one was seen."""
    failures, answered, slowest, stop = [], [0] * threads, 0.0, threading.Event()
    with running(indexes=[path], refresh_seconds=0.2) as server, Collection.open(path) as writer:

        def search(number: int) -> None:
            modes = ("lexical", "hybrid", "dense")
            while not stop.is_set():
                body = {"q": "how do cells divide", "mode": modes[number % 3], "limit": 5, "facets": ["topic"]}
                status, answer = server.ask("POST", "/indexes/library/search", body)
                if status != 200 or not answer["hits"]:
                    failures.append((status, answer))
                answered[number] += 1

        workers = [threading.Thread(target=search, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        try:
            for commit in range(commits):
                writer.update(documents(2, start=100 + 2 * commit))
                if commit % 5 == 4:
                    writer.delete([f"cells-{100 + 2 * (commit - 4)}"])
                if commit % 40 == 39:
                    writer.compact()
                if commit % 10 == 0:
                    start = time.monotonic()
                    while server.ask("GET", "/indexes")[1]["results"][0]["generation"] < writer.index.generation:
                        time.sleep(0.02)
                    slowest = max(slowest, time.monotonic() - start)
        finally:
            stop.set()
            for worker in workers:
                worker.join(30)
    assert failures == []
    assert min(answered) > 0
    return sum(answered), slowest


def test_commits_are_seen_while_requests_run(running, documents, own_library) -> None:
    _, slowest = swap(running, documents, own_library, 12)
    assert slowest < 2


@pytest.mark.torture
def test_two_hundred_commits_are_seen_while_requests_run(running, documents, own_library) -> None:
    answered, slowest = swap(running, documents, own_library, 200)
    print(f"200 commits: {answered} requests, none failed; the slowest was seen after {slowest:.2f} s")
    assert slowest < 2


@pytest.fixture
def process(client):
    """The program, and a client of it."""

    @contextlib.contextmanager
    def start(*arguments: str):
        command = [sys.executable, str(PROGRAM), *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
            try:
                url = started.stdout.readline().strip()
                assert url.startswith("http://127.0.0.1:"), started.stderr.read()
                ask = client(int(url.rpartition(":")[2]))
                while ask("GET", "/readyz")[0] != 200:
                    time.sleep(0.02)
                yield started, ask
            finally:
                if started.poll() is None:
                    started.kill()

    return start


@pytest.fixture
def records(documents):
    """The body of a request that adds documents."""

    def make(start: int, count: int) -> dict:
        made = documents(count, start)
        return {"documents": [{"id": each.id, "text": each.text, "metadata": each.metadata} for each in made]}

    return make


def test_what_was_added_survives_a_kill(process, records, own_library) -> None:
    with process(str(own_library), "--write") as (server, ask):
        assert ask("POST", "/indexes/library/documents", records(100, 8))[1]["added"] == 8

        def add() -> None:
            with contextlib.suppress(OSError, ValueError):
                ask("POST", "/indexes/library/documents", records(1000, 4000))

        adding = threading.Thread(target=add)
        adding.start()
        time.sleep(0.4)
        os.kill(server.pid, signal.SIGKILL)
        adding.join(10)
    with Collection.open(own_library) as library:
        assert len(library) in (20, 4020)
        assert library.verify() == []
    with process(str(own_library), "--write") as (_, ask):
        assert ask("GET", "/indexes/library/documents/cells-100")[0] == 200
        assert ask("POST", "/indexes/library/documents", records(200, 4))[1]["added"] == 4
        assert ask("DELETE", "/indexes/library/documents/cells-200")[1]["deleted"] == 1
        assert ask("DELETE", "/indexes/library/documents/cells-200")[0] == 404


def test_a_full_disk_is_told_and_searches_continue(process, records, own_library) -> None:
    """Files may not grow beyond what they are: the system refuses writes as it does where a disk is full."""
    with process(str(own_library), "--write", "--file-bytes", "300000") as (_, ask):
        status, answer = ask("POST", "/indexes/library/documents", records(1000, 8000))
        assert (status, answer["error"]["code"]) == (507, "index_not_writable")
        assert str(own_library.parent) not in answer["error"]["message"]
        assert ask("POST", "/indexes/library/search", {"q": "how do cells divide"})[1]["hits"]
        assert ask("GET", "/indexes")[1]["results"][0]["documents"] == 12
        assert ask("POST", "/indexes/library/documents", records(100, 2))[0] == 200
    with Collection.open(own_library) as library:
        assert library.verify() == []


def test_a_server_that_is_asked_to_stop_answers_what_it_has_begun(process, own_library) -> None:
    with process(str(own_library), "--seconds", "0.1") as (server, ask):
        answers = []

        def embed() -> None:
            answers.append(ask("POST", "/v1/embeddings", {"input": [f"text {n}" for n in range(8)]}))

        asking = [threading.Thread(target=embed) for _ in range(3)]
        for thread in asking:
            thread.start()
        time.sleep(0.4)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        with contextlib.suppress(OSError):  # nobody listens any more, or the answer is no
            assert ask("POST", "/embed", {"inputs": "late"})[0] == 503
        for thread in asking:
            thread.join(20)
        assert [status for status, _ in answers] == [200] * 3
        assert np.shape(answers[0][1]["data"][7]["embedding"]) == (32,)
        assert server.wait(20) == 0


def test_answers_are_sent_at_once(process, own_library) -> None:
    """Header and body are two pieces; nothing may hold the second back until the client has confirmed the first."""
    with process(str(own_library)) as (_, ask):
        connection = http.client.HTTPConnection("127.0.0.1", ask.port, timeout=10)
        times = []
        with contextlib.closing(connection):
            for _ in range(30):
                start = time.monotonic()
                connection.request("GET", "/livez")
                connection.getresponse().read()
                times.append(time.monotonic() - start)
    assert min(times[1:]) < 0.03
