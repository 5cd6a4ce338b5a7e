"""What the routes answer."""

from __future__ import annotations

import base64

import numpy as np


def test_health(ask) -> None:
    assert ask("GET", "/livez") == (200, {"status": "ok"})
    assert ask("GET", "/readyz") == (200, {"status": "ok", "reasons": []})


def test_models(ask) -> None:
    status, answer = ask("GET", "/v1/models")
    assert status == 200
    assert [model["id"] for model in answer["data"]] == ["hash"]


def test_embeddings_are_those_of_the_encoder(ask, loads_hash) -> None:
    texts = ["cells divide", "stars", "bread and ships"]
    status, answer = ask("POST", "/v1/embeddings", {"input": texts, "model": "hash"})
    assert status == 200
    assert [each["index"] for each in answer["data"]] == [0, 1, 2]
    np.testing.assert_allclose([each["embedding"] for each in answer["data"]], loads_hash.encode(texts), atol=1e-6)
    assert answer["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    _, packed = ask("POST", "/embeddings", {"input": texts[0], "encoding_format": "base64"})
    vector = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(vector, loads_hash.encode(texts[:1])[0])


def test_token_ids_are_refused_with_a_hint(ask) -> None:
    for ids in ([1, 2, 3], [[1, 2], [3]]):
        status, answer = ask("POST", "/v1/embeddings", {"input": ids, "model": "hash"})
        assert status == 400
        assert answer["error"]["param"] == "input"
        assert answer["error"]["code"] == "tokens_not_supported"
        assert "check_embedding_ctx_length=False" in answer["error"]["message"]


def test_indexes_are_listed(ask) -> None:
    _, answer = ask("GET", "/indexes")
    (index,) = answer["results"]
    assert (index["name"], index["documents"], index["dimension"]) == ("library", 12, 32)


def test_search_finds(ask) -> None:
    for mode in ("dense", "lexical", "hybrid"):
        status, answer = ask("POST", "/indexes/library/search", {"q": "how do cells divide", "mode": mode, "limit": 3})
        assert status == 200
        assert [hit["id"].split("-")[0] for hit in answer["hits"]] == ["cells"] * 3, mode


def test_similar_documents_and_topics(ask) -> None:
    assert ask("GET", "/indexes/library/documents/cells-0")[1]["title"] == "Cells"
    assert ask("GET", "/indexes/library/documents/nothing")[0] == 404
    _, near = ask("POST", "/indexes/library/similar", {"id": "cells-0", "limit": 2})
    assert {hit["id"] for hit in near["hits"]} == {"cells-4", "cells-8"}
    assert ask("GET", "/indexes/library/topics")[0] == 404
