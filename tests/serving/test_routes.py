"""What the routes answer."""

from __future__ import annotations

import base64
import json
from urllib.parse import urlencode

import numpy as np
import pytest
from llm2comp_indexes import IndexedDocument

from llm2comp_apps import Collection, Document
from llm2comp_apps.serving import ServeSettings, State
from llm2comp_apps.serving.call import json_response


def test_health(ask) -> None:
    assert ask("GET", "/livez") == (200, {"status": "ok"})
    assert ask("GET", "/readyz") == (200, {"status": "ok", "reasons": []})


def test_models(ask) -> None:
    status, answer = ask("GET", "/v1/models")
    assert status == 200
    assert [model["id"] for model in answer["data"]] == ["hash"]
    assert ask("GET", "/v1/models/hash") == (200, answer["data"][0]) == ask("GET", "/models/hash")
    status, answer = ask("GET", "/v1/models/some/other")
    assert (status, answer["error"]["code"]) == (404, "model_not_found")


def test_an_encoder_that_an_index_has_too_is_loaded_once(tiny_encoder_dir, tmp_path) -> None:
    path, name = tmp_path / "notes.index", str(tiny_encoder_dir)
    with Collection.create(path, encoder=name, device="cpu") as library:
        library.update([Document("cells", "Cells divide."), Document("bread", "Bread rises.")])
    for named, count in ((name, 1), (f"{name}@first", 2)):  # read in another way, it is another encoder
        state = State(ServeSettings(indexes=[path], encoder=named, device="cpu"))
        state.start()
        for engine in state.engines.values():
            engine.loaded.result(60)
        assert len(state.engines) == count
        assert len(state.indexes["notes"].collection.search("cells", mode="dense")) == 2
        state.close()


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


def test_roles_are_known_where_an_encoder_has_no_prompts(ask, server, monkeypatch) -> None:
    asked = {"input": "cells", "prompt_name": "query"}
    assert ask("POST", "/v1/embeddings", asked)[0] == 200
    (engine,) = server.state.engines.values()
    monkeypatch.setattr(engine.encoder, "prompts", {})
    assert ask("POST", "/v1/embeddings", asked)[0] == 200
    status, answer = ask("POST", "/v1/embeddings", {**asked, "prompt_name": "question"})
    assert (status, answer["error"]["param"]) == (400, "prompt_name")
    assert "must be one of query, document, not 'question'" in answer["error"]["message"]


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


def test_a_vector_that_would_not_be_read_is_refused(ask) -> None:
    asked = {"q": "gas", "mode": "lexical", "vector": [1.0] * 32}
    status, answer = ask("POST", "/indexes/library/search", asked)
    assert status == 422
    assert answer["error"]["param"] == "vector"
    assert "has no effect where mode is lexical" in answer["error"]["message"]


@pytest.mark.parametrize("rerank", [{}, {"rerank": "ltr"}, {"rerank": "words"}])
def test_a_page_says_how_many_hits_there_are(ask, rerank) -> None:
    for limit, offset in ((2, 0), (2, 8), (1, 30)):
        asked = {"q": "gas", "limit": limit, "offset": offset, "ids": True, **rerank}
        _, answer = ask("POST", "/indexes/library/search", asked)
        assert answer["estimatedTotalHits"] == len(answer["ids"]) == 12


def test_a_search_has_pages_facets_and_scores(ask) -> None:
    asked = {
        "q": "gas",
        "mode": "lexical",
        "limit": 2,
        "offset": 1,
        "facets": ["topic", "year"],
        "where": "year < 2008",
    }
    status, answer = ask("POST", "/indexes/library/search", asked)
    assert status == 200
    assert [hit["rank"] for hit in answer["hits"]] == [2, 3]
    assert answer["estimatedTotalHits"] == 4
    assert answer["facetDistribution"]["topic"] == {"bread": 2, "stars": 2}
    assert set(answer["facetDistribution"]["year"]) == {"2001", "2002", "2005", "2006"}
    assert "text" not in answer["hits"][0]
    marked = answer["hits"][0]["snippet"][slice(*answer["hits"][0]["marks"][0])]
    assert marked == "gas"
    _, by_get = ask(
        "GET", "/indexes/library/search?q=gas&mode=lexical&limit=2&offset=1&facets=topic,year&where=year%3C2008"
    )
    assert by_get["hits"] == answer["hits"]
    assert ask("POST", "/indexes/library/search", {**asked, "text": True})[1]["hits"][0]["text"].endswith(".")


def test_values_that_are_spelled_alike_are_counted_together(running, loads_hash, tmp_path) -> None:
    values = [2020] * 4 + ["2020"] * 3 + ["other"] * 5 + [True] + ["true"]
    with Collection.create(tmp_path / "mixed.index", encoder="default") as library:
        library.update(Document(str(place), "words", metadata={"x": value}) for place, value in enumerate(values))
    with running(indexes=[tmp_path / "mixed.index"]) as server:
        for path, body in (("search", {"q": "words", "mode": "lexical"}), ("browse", {})):
            _, answer = server.ask("POST", f"/indexes/mixed/{path}", {**body, "facets": ["x"]})
            assert list(answer["facetDistribution"]["x"].items()) == [("2020", 7), ("other", 5), ("true", 2)], path


def test_integers_of_any_size_are_answered(running, loads_hash, tmp_path) -> None:
    numbers = {
        str(place): sign * (2**bits + one)
        for place, (sign, bits, one) in enumerate(
            (sign, bits, one) for sign in (1, -1) for bits in (63, 64, 100) for one in (-1, 0, 1)
        )
    }
    with Collection.create(tmp_path / "large.index", encoder="default") as library:
        library.update(
            Document(key, "some words", metadata={"n": number, "in": [{"n": number}]})
            for key, number in numbers.items()
        )
    with running(indexes=[tmp_path / "large.index"]) as server:
        for path, body in (("search", {"q": "words", "limit": 50}), ("browse", {"limit": 50})):
            status, answer = server.ask("POST", f"/indexes/large/{path}", body)
            assert status == 200, answer
            assert {hit["id"]: hit["metadata"]["n"] for hit in answer["hits"]} == numbers
        for key, number in numbers.items():
            status, found = server.ask("GET", f"/indexes/large/documents/{key}")
            assert (status, found["metadata"]) == (200, {"n": number, "in": [{"n": number}]})
    shard = json.loads(json_response([IndexedDocument("a", "b", metadata=numbers)]).body)  # what a front asks for
    assert (shard[0]["id"], shard[0]["metadata"]) == ("a", numbers)


def test_a_search_takes_a_vector(ask, loads_hash) -> None:
    vector = loads_hash.encode(["stars"], prompt="find: ")[0].tolist()
    _, expected = ask("POST", "/indexes/library/search", {"q": "stars", "mode": "dense"})
    status, answer = ask("POST", "/indexes/library/search", {"vector": vector})
    assert (status, answer["mode"]) == (200, "dense")
    assert [hit["id"] for hit in answer["hits"]] == [hit["id"] for hit in expected["hits"]]
    _, both = ask("POST", "/indexes/library/search", {"vector": vector, "q": "stars"})
    assert both["mode"] == "hybrid"
    for wrong in ([1.0], [*vector[:-1], "x"], [0.0] * len(vector), [1e300] * len(vector), "abc"):
        status, answer = ask("POST", "/indexes/library/search", {"vector": wrong})
        assert (status, answer["error"]["param"]) == (422, "vector")


def test_passages_are_hits_with_their_text(tmp_path, loads_hash, documents, running) -> None:
    filler = " ".join(f"Filler {number} of nothing." for number in range(12))
    text = f"Stars burn hydrogen. {filler} Bread rises because yeast makes gas."
    with Collection.create(tmp_path / "chunked.index", encoder="default", chunk=16) as made:
        made.update([*documents(8), Document("long", text)])
    with running(indexes=[tmp_path / "chunked.index"]) as server:
        asked = {"q": "stars and bread", "passages": True, "limit": 9}
        status, answer = server.ask("POST", "/indexes/chunked/search", asked)
        assert status == 200, answer
        long = [hit for hit in answer["hits"] if hit["id"] == "long"]
        assert len(long) > 1, "two of its chunks are about it"
        assert len({tuple(hit["span"]) for hit in long}) == len(long)
        for hit in long:
            start, end = hit["span"]
            assert hit["text"] == text[start:end]
        _, second = server.ask("POST", "/indexes/chunked/search", {**asked, "limit": 2, "offset": 2})
        assert [(hit["id"], hit["span"]) for hit in second["hits"]] == [
            (hit["id"], hit["span"]) for hit in answer["hits"][2:4]
        ]
        assert [hit["rank"] for hit in second["hits"]] == [3, 4]


def test_passages_of_an_index_without_chunks_are_refused(ask) -> None:
    status, answer = ask("POST", "/indexes/library/search", {"q": "stars", "passages": True})
    assert status == 422
    assert answer["error"]["param"] == "passages"


def test_a_search_reranks_by_memory(ask) -> None:
    status, answer = ask(
        "POST", "/indexes/library/search", {"q": "how do cells divide", "rerank": "memory", "limit": 3}
    )
    assert status == 200
    assert all(hit["id"].startswith("cells") for hit in answer["hits"])
    assert ask("POST", "/indexes/library/search", {"q": "x", "rerank": "/etc/passwd"})[0] == 422


def test_reranking_speaks_three_dialects(ask, loads_hash) -> None:
    texts = ["bread and dough", "cells divide", "stars"]
    asked = {"model": "hash", "query": "cells divide", "documents": texts, "top_n": 2, "return_documents": True}
    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        status, answer = ask("POST", path, asked)
        assert status == 200
        assert next(result["index"] for result in answer["results"]) == 1
        assert len(answer["results"]) == 2
        assert answer["results"][0]["document"] == {"text": "cells divide"}
        assert 0 <= answer["results"][1]["relevance_score"] <= answer["results"][0]["relevance_score"] <= 1
        assert answer["usage"]["total_tokens"] == 8
    status, bare = ask("POST", "/rerank", {"query": "cells divide", "texts": texts, "raw_scores": True})
    assert status == 200
    assert next(each["index"] for each in bare) == 1
    assert (1 + bare[0]["score"]) / 2 == pytest.approx(answer["results"][0]["relevance_score"], abs=1e-6)
    assert ask("POST", "/rerank", {"query": "x", "texts": []})[1]["error_type"] == "Validation"
    objects = [{"title": "cells", "text": "divide"}, {"text": "stars"}]
    assert ask("POST", "/v1/rerank", {"query": "cells", "documents": objects})[1]["results"][0]["index"] == 0
    objects[1] = {"body": "stars"}
    status, answer = ask("POST", "/v1/rerank", {"query": "cells", "documents": objects})
    assert (status, answer["error"]["param"]) == (400, "documents")
    assert answer["error"]["message"].endswith("the one at position 1 has no field text")


def test_text_embeddings_inference(ask, loads_hash) -> None:
    status, vectors = ask("POST", "/embed", {"inputs": ["cells", "stars"]})
    assert status == 200
    np.testing.assert_allclose(vectors, loads_hash.encode(["cells", "stars"]), atol=1e-6)
    _, memory = ask("POST", "/embed_all", {"inputs": "cells divide"})
    np.testing.assert_allclose(memory, loads_hash.encode_memory(["cells divide"]), rtol=1e-5)
    _, cosines = ask("POST", "/similarity", {"inputs": {"source_sentence": "cells", "sentences": ["cells", "stars"]}})
    assert cosines[0] == pytest.approx(1, abs=1e-5)
    assert cosines[1] < 0.5
    assert ask("GET", "/info")[1]["model_id"] == "hash"
    _, tokens = ask("POST", "/tokenize", {"inputs": "two words"})
    assert [token["id"] for token in tokens[0]] == [3, 5]
    for wrong in ({"inputs": []}, {"inputs": [1, 2]}, {}, {"inputs": "x", "normalize": False}, {"inputs": {"a": 1}}):
        status, answer = ask("POST", "/embed", wrong)
        assert status == 422
        assert set(answer) == {"error", "error_type"}


def test_errors_name_the_field(ask) -> None:
    for body, param in (
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", 3]}, "input"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
        ({"input": "x", "dimensions": 33}, "dimensions"),
        ({"input": "x", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "x", "model": "gpt"}, "model"),
    ):
        status, answer = ask("POST", "/v1/embeddings", body)
        assert status == (404 if param == "model" else 400), body
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        assert answer["error"]["param"] == param
    for body, param in (
        ({"q": " "}, "q"),
        ({"q": "x", "limit": 0}, "limit"),
        ({"q": "x", "mode": "magic"}, "mode"),
        ({"q": "x", "where": "year >"}, "where"),
        ({"q": "x", "where": "(" * 40 + "a = 1" + ")" * 40}, "where"),
    ):
        status, answer = ask("POST", "/indexes/library/search", body)
        assert (status, answer["error"]["param"]) == (422, param), body
    assert ask("POST", "/indexes/other/search", {"q": "x"})[0] == 404
    assert ask("POST", "/indexes/library/similar", {"id": "nobody"})[0] == 404
    assert ask("GET", "/nowhere")[1]["error"]["code"] == "no_route"
    assert ask("DELETE", "/indexes")[0] == 405
    status, _, body = ask.raw("POST", "/v1/embeddings", b"{not json")
    assert status == 400
    assert b"invalid_json" in body


def test_metrics_are_counted(ask) -> None:
    ask("POST", "/indexes/library/search", {"q": "cells"})
    ask("POST", "/v1/embeddings", {"input": "x"})
    text = ask.raw("GET", "/metrics")[2].decode()
    assert 'llm2comp_requests_total{code="200",route="/v1/embeddings"} 1.0' in text
    assert 'llm2comp_index_documents{index="library"} 12.0' in text
    assert "llm2comp_batch_tokens_count" in text
    assert 'llm2comp_search_seconds_total{part="lexical search"}' in text


def test_an_encoder_that_was_named_answers_who_names_no_model(running, library, make_hash_encoder, monkeypatch) -> None:
    other = make_hash_encoder(seed="other")
    monkeypatch.setattr("llm2comp_apps.serving.state.load_encoder", lambda *_, **__: other)
    with running(indexes=[library], encoder="other") as server:
        _, answer = server.ask("POST", "/embed", {"inputs": ["stars"]})
        np.testing.assert_allclose(answer, other.encode(["stars"]), atol=1e-6)
        _, answer = server.ask("POST", "/v1/embeddings", {"input": "stars"})
        np.testing.assert_allclose(answer["data"][0]["embedding"], other.encode(["stars"])[0], atol=1e-6)
        assert server.ask("POST", "/indexes/library/search", {"q": "stars", "mode": "dense"})[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "asked", "wrong"),
    [
        ("POST", "search", {"q": "stars", "filter": "year > 2000"}, "filter"),
        ("POST", "similar", {"id": "stars-1", "k": 3}, "k"),
        ("POST", "browse", {"were": "year > 2000"}, "were"),
        ("GET", "search?q=stars&size=5", None, "size"),
        ("GET", "search?q=stars&limit=--5", None, "limit"),
        ("GET", "documents/stars-1?text=true", None, "text"),
        ("GET", "documents?id=stars-1&id=stars-2", None, "id"),
        ("GET", "search?q=stars&facets=topic&facets=year", None, "facets"),
        ("DELETE", "documents/stars-1?where=year>2000", None, "where"),
        ("POST", "search?limit=5", {"q": "stars"}, "limit"),
        ("POST", "documents/delete?where=year>2000", {"ids": ["stars-1"]}, "where"),
    ],
)
def test_a_field_that_would_count_for_nothing_is_refused(ask, method, path, asked, wrong) -> None:
    status, answer = ask(method, f"/indexes/library/{path}", asked)
    assert (status, answer["error"]["param"]) == (422, wrong)


@pytest.mark.parametrize(
    ("path", "asked"), [("search", {"q": "stars", "limit": 3}), ("similar", {"id": "stars-1"}), ("browse", {})]
)
def test_a_condition_on_a_field_that_is_not_there_is_answered_with_a_warning(ask, path, asked) -> None:
    status, answer = ask("POST", f"/indexes/library/{path}", {**asked, "where": "yaer != 2020"})
    assert status == 200
    assert answer["warnings"] == ["where: no document has a field 'yaer' (there are: _id, title, topic, year)"]
    assert answer["hits"]
    assert "warnings" not in ask("POST", f"/indexes/library/{path}", {**asked, "where": "year != 2020"})[1]


def test_ids_that_a_path_cannot_hold_are_asked_for_by_query(ask, running, loads_hash, tmp_path) -> None:
    odd = [".", "..", "a/../b"]
    with Collection.create(tmp_path / "odd.index", encoder="default") as made:
        made.update(Document(id_, f"text of {id_}") for id_ in odd)
    with running(indexes=[tmp_path / "odd.index"]) as server:
        for id_ in odd:
            status, found = server.ask("GET", f"/indexes/odd/documents?{urlencode({'id': id_})}")
            assert (status, found["id"]) == (200, id_)
        assert server.ask("GET", "/indexes/odd/documents?id=none")[0] == 404
        status, found = server.ask("GET", "/indexes/odd/documents")
        assert (status, found["error"]["param"]) == (422, "id")


def test_learned_weights_are_asked_for_where_there_are_some(ask, own_library, running, loads_hash) -> None:
    asked = {"q": "stars", "fusion": "learned"}
    status, answer = ask("POST", "/indexes/library/search", asked)
    assert (status, answer["error"]["param"]) == (422, "fusion")
    with Collection.open(own_library, encoder=loads_hash) as library, library.index.writer() as writer:
        writer.keep(learned={"stretch": 0.0, "shift": 9.0})
    with running(indexes=[own_library]) as server:
        status, found = server.ask("POST", "/indexes/library/search", asked)
        assert status == 200
        _, dense = server.ask("POST", "/indexes/library/search", {"q": "stars", "mode": "dense"})
        assert found["hits"][0]["id"] == dense["hits"][0]["id"]
