"""The description of the API is what the routes are."""

from __future__ import annotations

import re

import pytest
from starlette.routing import Route

from llm2comp_apps.serving.http import routes
from llm2comp_apps.serving.openapi import openapi
from llm2comp_apps.serving.schemas import Fields

DESCRIBED = {
    (method.upper(), path): operation
    for path, methods in openapi()["paths"].items()
    for method, operation in methods.items()
}


def test_every_route_is_described_and_nothing_else() -> None:
    there = {
        (method, re.sub(r":path", "", route.path))
        for route in routes()
        if isinstance(route, Route)
        for method in route.methods - {"HEAD"}
    }
    assert set(DESCRIBED) == there


def fields_of(operation) -> set[str]:
    body = operation.get("requestBody", {"content": {"application/json": {"schema": {"properties": {}}}}})
    named = set(body["content"]["application/json"]["schema"]["properties"])
    return named | {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}


BODIES = {
    "/embeddings": {"input": "x"},
    "/rerank": {"query": "x", "documents": ["a"]},
    "/embed": {"inputs": "x"},
    "/": {"inputs": "x"},
    "/embed_all": {"inputs": "x"},
    "/tokenize": {"inputs": "x"},
    "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["b"]}},
    "/search": {"q": "cells"},
    "/similar": {"id": "cells-0"},
    "/browse": {},
    "/documents": {"documents": [{"id": "a", "text": "b"}]},
    "/{question}": {},
    "/delete": {"ids": ["nobody"]},
}


@pytest.mark.parametrize(("method", "path"), [key for key in DESCRIBED if key[0] == "POST"])
def test_the_fields_that_are_read_are_those_that_are_described(method, path, running, own_library, monkeypatch) -> None:
    seen = set()
    get = Fields.get

    def watched(self, name):
        if not self._prefix:
            seen.add(name)
        return get(self, name)

    monkeypatch.setattr(Fields, "get", watched)
    body = next(body for end, body in BODIES.items() if path.endswith(end) and (end != "/" or path == "/"))
    bodies = [body, {"query": "x", "texts": ["a"]}] if path.endswith("/rerank") else [body]
    with running(indexes=[own_library], write=True) as server:
        for each in bodies:
            status, answer = server.ask(method, path.replace("{name}", "library").replace("{question}", "about"), each)
            assert status == 200, answer
    assert seen == fields_of(DESCRIBED[method, path])


def test_the_description_is_served(ask) -> None:
    assert ask("GET", "/openapi.json") == (200, openapi())


def test_every_part_of_a_path_is_described() -> None:
    for (_, path), operation in DESCRIBED.items():
        described = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
        assert described == set(re.findall(r"{(\w+)}", path)), path


def test_fields_of_one_name_are_described_as_their_path_takes_them() -> None:
    def schema(path: str, field: str):
        body = DESCRIBED["POST", path]["requestBody"]["content"]["application/json"]["schema"]
        return body["properties"][field]

    assert schema("/indexes/{name}/search", "ids")["type"] == "boolean"
    assert schema("/indexes/{name}/documents/delete", "ids")["type"] == "array"
    assert set(schema("/similarity", "inputs")["properties"]) == {"source_sentence", "sentences"}
    assert schema("/indexes/{name}/documents", "documents")["items"]["required"] == ["id"]
