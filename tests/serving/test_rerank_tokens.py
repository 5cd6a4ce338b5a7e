"""Searches of a server whose best hits are read again, token by token."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from llm2comp_apps import Collection, open_shards
from llm2comp_apps.encoder.token_states import TokenStates
from llm2comp_apps.retrieval.rerank.ltr import Network
from llm2comp_apps.retrieval.rerank.tokens import SENTENCES
from llm2comp_apps.serving import ServeSettings

_SEARCH = "/indexes/library/search"


@pytest.fixture
def readers(hash_loader, monkeypatch):
    """The encoder of hashes shows its words as tokens; what it was asked for: the thread's name, and the texts."""
    encoder, asked = hash_loader(), []

    def encode_tokens(texts, *, max_length=None):
        asked.append((threading.current_thread().name, list(texts)))
        found = []
        for text in texts:
            words = text.lower().replace(".", "").split()[:max_length]
            vectors = np.array([encoder._word(word) for word in words], np.float32).reshape(-1, encoder.dimension)
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            found.append(TokenStates(np.array([999 + len(word) for word in words], np.int64), vectors / lengths))
        return found

    monkeypatch.setattr(encoder, "encode_tokens", encode_tokens, raising=False)
    return asked


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_hits_are_those_of_the_same_search_without_a_server(readers, server, library, hash_loader, mode) -> None:
    query = "how do cells divide in note two"
    asked = {"q": query, "mode": mode, "rerank": "tokens", "rerank_ms": 10_000, "limit": 8}
    status, answer = server.ask("POST", _SEARCH, asked)
    assert status == 200, answer
    assert {thread for thread, _ in readers} == {"engine hash"}, "an encoder belongs to the thread of its engine"
    with Collection.open(library, encoder=hash_loader()) as collection:
        expected = collection.search(query, k=8, mode=mode, rerank="tokens", rerank_ms=10_000)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected]
    np.testing.assert_allclose([hit["score"] for hit in answer["hits"]], [hit.score for hit in expected], atol=1e-5)


def test_what_reads_tokens_is_opened_once_and_before_the_time_runs(readers, server) -> None:
    for _ in range(3):
        assert server.ask("POST", _SEARCH, {"q": "stars", "rerank": "tokens", "rerank_ms": 10_000})[0] == 200
    first, *others = [texts for _, texts in readers]
    assert sorted(first) == sorted(SENTENCES)
    assert all("stars" in texts for texts in others)


def test_an_encoder_without_tokens_is_named(ask) -> None:
    status, answer = ask("POST", _SEARCH, {"q": "stars", "rerank": "tokens"})
    assert (status, answer["error"]["param"]) == (422, "rerank")
    assert "cannot be tokens: the encoder hash shows no tokens" in answer["error"]["message"]


@pytest.mark.parametrize("rerank", ["memory", "tokens"])
def test_a_server_without_the_encoder_says_so(running, library, rerank) -> None:
    with running(indexes=[library], load_encoders=False) as server:
        asked = {"q": "stars", "mode": "lexical"}
        assert server.ask("POST", _SEARCH, asked)[0] == 200
        status, answer = server.ask("POST", _SEARCH, {**asked, "rerank": rerank})
        without = server.ask("POST", "/v1/embeddings", {"input": "stars"})
    assert (status, answer["error"]["param"]) == (422, "rerank")
    assert "needs an encoder" in answer["error"]["message"]
    assert (without[0], without[1]["error"]["message"]) == (404, "this server has no encoder")


def test_words_are_read_again_without_an_encoder(running, library) -> None:
    with running(indexes=[library], load_encoders=False) as server:
        asked = {"q": "how do cells divide", "mode": "lexical", "rerank": "words", "limit": 8}
        status, answer = server.ask("POST", _SEARCH, asked)
    assert status == 200, answer
    with Collection.open(library) as collection:
        expected = collection.search("how do cells divide", k=8, mode="lexical", rerank="words")
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected]


def test_what_a_hybrid_search_knows_is_read(running, library) -> None:
    with running(indexes=[library]) as server:
        asked = {"q": "how do cells divide", "rerank": "ltr", "limit": 8}
        status, answer = server.ask("POST", _SEARCH, asked)
        assert status == 200, answer
        refused, error = server.ask("POST", _SEARCH, {**asked, "mode": "lexical"})
    with Collection.open(library) as collection:
        expected = collection.search("how do cells divide", k=8, rerank="ltr")
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected]
    assert (refused, error["error"]["param"]) == (422, "rerank")
    assert "it reads what a hybrid search knows of its hits" in error["error"]["message"]


def test_what_the_first_shard_learns_counts_at_once(running, documents, tmp_path, loads_hash) -> None:
    folders = [tmp_path / f"{number}.index" for number in range(2)]
    for number, folder in enumerate(folders):
        with Collection.create(folder, encoder="default") as made:
            made.update(documents(20, 20 * number))
    with contextlib.ExitStack() as stack:
        shards = [stack.enter_context(running(indexes=[folder], load_encoders=False)) for folder in folders]
        front = stack.enter_context(running(shards=["library=" + ",".join(each.ask.url for each in shards)]))
        asked = {"q": "how do cells divide in note two", "rerank": "ltr", "limit": 20}
        before = front.ask("POST", _SEARCH, asked)[1]["hits"]
        shipped = Network.read()
        turned = replace(shipped, linear=-shipped.linear, outer=-shipped.outer)
        for number, changed in ((1, False), (0, True)):
            with Collection.open(folders[number], encoder=loads_hash) as shard, shard.index.writer() as writer:
                writer.keep(ltr={"share": 1.0, **turned.record()})
            for server in (shards[number], front):
                for served in server.state.indexes.values():
                    served.refresh()
            hits = front.ask("POST", _SEARCH, asked)[1]["hits"]
            assert ([hit["id"] for hit in hits] != [hit["id"] for hit in before]) is changed
        with open_shards(folders, encoder=loads_hash) as library:
            expected = library.search(asked["q"], k=20, rerank="ltr")
        assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-4)


@pytest.mark.parametrize("wrong", [0, 10_001, "soon", 1.5])
def test_a_time_that_is_none_is_refused(ask, wrong) -> None:
    status, answer = ask("POST", _SEARCH, {"q": "stars", "rerank": "memory", "rerank_ms": wrong})
    assert (status, answer["error"]["param"]) == (422, "rerank_ms")
    assert not answer["error"]["message"].endswith("must be a whole number, not a number")


def test_a_vector_alone_is_nothing_to_read(ask, loads_hash) -> None:
    vector = loads_hash.encode(["stars"])[0].tolist()
    status, answer = ask("POST", _SEARCH, {"vector": vector, "rerank": "memory"})
    assert (status, answer["error"]["param"]) == (422, "rerank")
    assert ask("POST", _SEARCH, {"vector": vector, "q": "stars", "rerank": "memory"})[0] == 200


def test_only_so_many_hits_are_read_again(ask) -> None:
    most = ServeSettings().limits.reranked
    for asked in ({"limit": most + 1}, {"limit": 1, "offset": most}):
        status, answer = ask("POST", _SEARCH, {"q": "stars", "rerank": "memory", **asked})
        assert (status, answer["error"]["param"]) == (422, "limit")
    assert ask("POST", _SEARCH, {"q": "stars", "rerank": "memory", "limit": most})[0] == 200


def test_a_time_for_nothing_is_refused(ask) -> None:
    status, answer = ask("POST", _SEARCH, {"q": "stars", "rerank_ms": 100})
    assert (status, answer["error"]["param"]) == (422, "rerank_ms")


def test_writers_that_wait_hold_no_reranking_up(running, own_library) -> None:
    document = {"id": "new", "text": "New words."}
    with running(indexes=[own_library], write=True) as server:
        (served,) = server.state.indexes.values()
        with served.writing, ThreadPoolExecutor(12) as clients:
            path = "/indexes/library/documents"
            written = [clients.submit(server.ask, "POST", path, {"documents": [document]}) for _ in range(12)]
            while server.state.at_work < 12:
                time.sleep(0.01)
            assert server.ask("POST", _SEARCH, {"q": "stars", "rerank": "memory"})[0] == 200
            assert not any(each.done() for each in written)
            served.writing.release()
            try:
                assert [each.result(30)[0] for each in written] == [200] * 12
            finally:
                served.writing.acquire()
