"""Servers on a port of this machine, with real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from llm2comp_apps import Collection, Document, TopicModel
from llm2comp_apps.serving import ServeSettings, State, create_app
from llm2comp_apps.serving.page_files import PUBLIC, page_routes

TOPICS = {
    "cells": "Cells divide by mitosis. Before a cell divides it copies its chromosomes.",
    "stars": "Stars are born in clouds of gas. A star burns hydrogen for most of its life.",
    "bread": "Bread rises because yeast makes gas. The dough rests before it is baked.",
    "ships": "Ships float because they displace water. A ship sinks when it takes in too much of it.",
}


def make_documents(count: int = 12, start: int = 0) -> list[Document]:
    """The four topics, again and again, numbered."""
    names = list(TOPICS)
    return [
        Document(
            f"{names[number % 4]}-{number}",
            f"{TOPICS[names[number % 4]]} Note {number}.",
            names[number % 4].title(),
            {"year": 2000 + number, "topic": names[number % 4]},
        )
        for number in range(start, start + count)
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The torture form runs only when it is asked for (``-m torture``)."""
    if "torture" not in (config.option.markexpr or ""):
        mine = [item for item in items if Path(__file__).parent in item.path.parents]
        torture = [item for item in mine if item.get_closest_marker("torture")]
        config.hook.pytest_deselected(items=torture)
        items[:] = [item for item in items if item not in torture]


class Client:
    """Asks a server, one connection per request."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def raw(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None):
        """Status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def __call__(self, method: str, path: str, value=None, **headers: str):
        """Status and decoded JSON."""
        body = None if value is None else json.dumps(value).encode()
        status, _, answer = self.raw(method, path, body, headers)
        return status, json.loads(answer) if answer else None


class Running:
    """A server in a thread; ``ask`` asks it."""

    def __init__(self, settings: ServeSettings, *, mcp: bool = False, bind: int = 0, **parts) -> None:
        self.state = State(settings)
        if mcp:
            from llm2comp_apps.serving.mcp import mcp_routes

            routes, around = mcp_routes(self.state)
            parts = {"more": routes, "around": [around]}
        self.app = create_app(self.state, **parts)
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", bind))
        self.listener.listen(2048)
        config = uvicorn.Config(self.app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
        self.server = uvicorn.Server(config)
        self.ask = Client(self.listener.getsockname()[1])
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],), daemon=True)

    def __enter__(self) -> Running:
        self.thread.start()
        for _ in range(600):
            if self.server.started and not self.state.unready():
                return self
            time.sleep(0.01)
        raise AssertionError(f"the server is not ready: {self.state.unready()}")

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        self.listener.close()
        assert not self.thread.is_alive()


@pytest.fixture(scope="session")
def documents():
    """Makes documents."""
    return make_documents


@pytest.fixture(scope="session")
def client():
    """Makes clients of a port."""
    return Client


@pytest.fixture(scope="session")
def hash_loader(make_hash_encoder):
    """What ``load_encoder`` would give, without a model."""
    encoder = make_hash_encoder()
    return lambda *_, **__: encoder


@pytest.fixture
def loads_hash(monkeypatch, hash_loader):
    """Every encoder that is loaded by name is the one of hashes."""
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", hash_loader)
    monkeypatch.setattr("llm2comp_apps.serving.state.load_encoder", hash_loader)
    return hash_loader()


@pytest.fixture(scope="session")
def library(tmp_path_factory, hash_loader):
    """An index of twelve documents that no test changes."""
    path = tmp_path_factory.mktemp("served") / "library.index"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm2comp_apps.encoder.load_encoder", hash_loader)
        with Collection.create(path, encoder="default", memory=True) as collection:
            collection.update(make_documents())
    return path


@pytest.fixture(scope="session")
def clustered(tmp_path_factory, hash_loader):
    """An index of sixty documents with its four topics beside it, which no test changes."""
    path = tmp_path_factory.mktemp("clustered") / "library.index"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm2comp_apps.encoder.load_encoder", hash_loader)
        with Collection.create(path, encoder="default") as collection:
            collection.update(make_documents(60))
            TopicModel.fit(collection, method="kmeans", k=4).save(path.with_name("library.clusters"))
    return path


@pytest.fixture
def own_library(library, tmp_path):
    """A copy of it that a test may change."""
    return Path(shutil.copytree(library, tmp_path / "library.index"))


@pytest.fixture
def running(loads_hash):
    """Starts servers: ``with running(indexes=[...]) as server``."""

    def start(*, more=(), public=(), mcp=False, bind=0, **settings):
        return Running(ServeSettings(**settings), more=more, public=public, mcp=mcp, bind=bind)

    return start


@pytest.fixture
def server(running, library):
    """A server of one index."""
    with running(indexes=[library]) as started:
        yield started


@pytest.fixture
def ask(server):
    """Asks that server."""
    return server.ask


@pytest.fixture
def serve_page(running):
    return lambda *paths, **settings: running(indexes=list(paths), more=page_routes(), public=PUBLIC, **settings)


@pytest.fixture
def open_page(browser):
    """Opens pages; fails the test on an error of a page, and on any request to somewhere else."""
    troubles, contexts = [], []

    def open_(server, address="", *, scheme="light", width=1280, height=860, refusal="", **more):
        def told(message) -> None:
            if message.type == "error" and not (refusal and refusal in message.text):
                troubles.append(message.text)

        def asked(request) -> None:
            if not request.url.startswith((server.ask.url, "data:")):
                troubles.append(request.url)

        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", told)
        page.on("request", asked)
        page.goto(f"{server.ask.url}/{address}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not troubles
