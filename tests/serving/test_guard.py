"""Who may ask."""

from __future__ import annotations

import pytest

from llm2comp_apps import UsageError
from llm2comp_apps.serving import ServeSettings, key_hash

KEY = "a-long-secret"


def test_other_names_and_pages_are_refused(ask) -> None:
    assert ask("GET", "/indexes", Host="evil.example")[1]["error"]["code"] == "host_not_allowed"
    assert ask("POST", "/embed", {"inputs": "x"}, Host="evil.example:80")[1]["error_type"] == "Validation"
    for host in ("localhost:1234", "127.0.0.1", "[::1]:80"):
        assert ask("GET", "/indexes", Host=host)[0] == 200
    for host in ("", "[", "127.0.0.1.evil.example", "10.0.0.1"):
        assert ask("GET", "/indexes", Host=host)[0] == 400, host
    assert ask("GET", "/indexes", Origin="http://evil.example")[0] == 403
    assert ask("GET", "/indexes", Origin="null")[0] == 403
    assert ask("GET", "/indexes", Origin="http://[")[0] == 403
    assert ask("GET", "/indexes", Origin=ask.url)[0] == 200


def test_no_page_elsewhere_may_read_unless_it_was_allowed(running, library) -> None:
    page = "https://app.example"
    with running(indexes=[library], cors=[page]) as server:
        status, headers, _ = server.ask.raw("GET", "/indexes", headers={"Origin": page})
        assert (status, headers["access-control-allow-origin"]) == (200, page)
        asks = {
            "Origin": page,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        assert server.ask.raw("OPTIONS", "/v1/embeddings", headers=asks)[0] == 200
        assert server.ask("GET", "/indexes", Origin="https://other.example")[0] == 403
    with running(indexes=[library]) as server:
        assert "access-control-allow-origin" not in server.ask.raw("GET", "/indexes")[1]


def test_a_key_is_asked_for_but_not_by_health_checks(running, library) -> None:
    with running(indexes=[library], key_hash=key_hash(KEY)) as server:
        ask = server.ask
        status, headers, _ = ask.raw("GET", "/v1/models")
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert (
            ask("GET", "/v1/models", Authorization="Bearer wrong-wrong")[1]["error"]["type"] == "authentication_error"
        )
        assert ask("GET", "/v1/models", Authorization=f"Bearer {KEY}")[0] == 200
        assert ask("GET", "/v1/models", **{"x-api-key": KEY})[0] == 200
        assert ask("GET", "/v1/models", Authorization="Basic x")[0] == 401
        assert [ask("GET", path)[0] for path in ("/livez", "/readyz", "/health")] == [200, 200, 200]
        assert [ask.raw("GET", path)[0] for path in ("/metrics", "/indexes", "/nowhere", "/livez/x")] == [401] * 4


def test_the_key_is_not_kept() -> None:
    settings = ServeSettings(host="0.0.0.0", key_hash=key_hash(KEY))
    assert KEY not in repr(settings)


def test_other_machines_need_a_key_or_a_word() -> None:
    with pytest.raises(UsageError, match=r"host 0\.0\.0\.0 is reached by other machines") as caught:
        ServeSettings(host="0.0.0.0")
    assert caught.value.field == "host"
    assert ServeSettings(host="0.0.0.0", auth=False).key_hash is None
    with pytest.raises(UsageError, match=r"^host must be an address or a name, and not empty$"):
        ServeSettings(host="", auth=False)
    for key in ("short", "with a blank in it", "schlüssel-schlüssel"):
        with pytest.raises(UsageError, match="api_key"):
            key_hash(key)


@pytest.mark.parametrize(
    ("field", "wrong", "right"),
    [
        ("cors", ["https://app.example/", "app.example", "https://app.example/page", "https://App.example", ""],
         ["https://app.example", "http://localhost:3000", "http://[::1]:3000", "app://page", "null", "*"]),
        ("allow_hosts", ["search.example:8000", "https://search.example", "", "[::1]"],
         ["search.example", "192.168.0.7", "fe80::1", "*"]),
    ],
)  # fmt: skip
def test_names_and_origins_that_no_request_has_are_refused(field, wrong, right) -> None:
    for each in wrong:
        with pytest.raises(UsageError, match=rf"^{field} must be .* is none$"):
            ServeSettings(**{field: [each]})
    assert getattr(ServeSettings(**{field: right}), field) == right


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("deadline", float("nan")), ("deadline", float("inf")), ("shard_key", "clé-of-the-shards"), ("shard_key", "a\nb")],
)
def test_what_cannot_be_waited_for_or_sent_is_refused(field, wrong) -> None:
    with pytest.raises(UsageError, match=rf"^{field} must be "):
        ServeSettings(**{field: wrong})


def test_a_server_for_other_machines_takes_addresses_but_no_foreign_names(running, library) -> None:
    with running(indexes=[library], host="0.0.0.0", auth=False, allow_hosts=["search.example"]) as server:
        assert server.ask("GET", "/indexes", Host="192.168.0.7:8000")[0] == 200
        assert server.ask("GET", "/indexes", Host="search.example")[0] == 200
        assert server.ask("GET", "/indexes", Host="evil.example")[0] == 400


def test_answers_name_no_folder_of_this_machine(running, library, monkeypatch) -> None:
    """Whatever fails, and whatever is asked."""
    with running(indexes=[library]) as server:
        answers = [
            server.ask.raw("GET", "/indexes")[2],
            server.ask.raw("POST", "/indexes/library/similar", b'{"id": "nobody"}')[2],
            server.ask.raw("GET", "/info")[2],
            server.ask.raw("GET", "/metrics")[2],
            server.ask.raw("GET", "/indexes/library/topics")[2],
        ]
        monkeypatch.setattr(
            "llm2comp_indexes.Index.get", lambda *_: (_ for _ in ()).throw(OSError(5, "no", str(library)))
        )
        answers.append(server.ask.raw("GET", "/indexes/library/documents/cells-0")[2])
    for answer in answers:
        assert str(library.parent).encode() not in answer
        assert b"/tmp" not in answer


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/srv/models/mine", "mine"),
        ("/srv/models/mine@merge", "mine@merge"),
        ("st:/srv/models/bge", "st:bge"),
        ("runs/kl/encoder", "runs/kl/encoder"),
        ("org/model", "org/model"),
        ("default", "default"),
    ],
)
def test_models_are_called_without_folders_of_this_machine(running, name, shown) -> None:
    with running(encoder=name) as server:
        assert [model["id"] for model in server.ask("GET", "/v1/models")[1]["data"]] == [shown]
        for model in (name, shown):
            assert server.ask("POST", "/v1/embeddings", {"input": "x", "model": model})[0] == 200
